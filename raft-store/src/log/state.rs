//! What the log holds, in memory: where each entry lies on disk, and the newest entries themselves.

use std::collections::VecDeque;

use crate::limits;
use crate::raft::{Entry, LogId, Vote};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub segment: u64,
    pub offset: u32,
    pub len: u32,
}

/// The log as its users see it, appended entries included from the moment they are queued.
#[derive(Debug, Default)]
pub struct State {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    /// Index of `positions[0]`.
    first: u64,
    /// Of the entries that were written.
    positions: VecDeque<Position>,
    /// Index of `cached[0]`; every entry not yet written is cached.
    cached_from: u64,
    cached: VecDeque<(Entry, u32)>,
    cached_bytes: usize,
}

impl State {
    /// Queues an entry that takes `bytes`.
    pub fn append(&mut self, entry: Entry, bytes: usize) {
        if self.cached.is_empty() {
            self.cached_from = entry.log_id.index;
        }
        self.last = Some(entry.log_id);
        self.cached.push_back((entry, bytes as u32));
        self.cached_bytes += bytes;
    }

    /// Notes that the next entry was written at `position`; evicts what the cache need not hold.
    pub fn written(&mut self, index: u64, position: Position) {
        if self.positions.is_empty() {
            self.first = index;
        }
        self.positions.push_back(position);
    }

    /// First index that has not been written.
    fn unwritten(&self) -> u64 {
        self.first + self.positions.len() as u64
    }

    /// Drops the oldest written entries from the cache while it is too large.
    pub fn evict(&mut self) {
        while self.cached_bytes > limits::LOG_CACHE_BYTES && self.cached_from < self.unwritten() {
            let Some((_, bytes)) = self.cached.pop_front() else {
                return;
            };
            self.cached_bytes -= bytes as usize;
            self.cached_from += 1;
        }
    }

    /// Voids entries after `last` in memory; the positions follow when the record is written.
    pub fn truncate_after(&mut self, last: Option<LogId>) {
        let keep_until = last.map_or(0, |last| last.index + 1);
        while let Some((entry, bytes)) = self.cached.back()
            && entry.log_id.index >= keep_until
        {
            self.cached_bytes -= *bytes as usize;
            self.cached.pop_back();
        }
        self.last = last.or(self.purged);
    }

    pub fn truncate_positions(&mut self, last: Option<LogId>) {
        let keep_until = last.map_or(0, |last| last.index + 1);
        let keep = keep_until.saturating_sub(self.first) as usize;
        self.positions.truncate(keep);
    }

    /// Forgets entries up to `id`.
    pub fn purge(&mut self, id: LogId) {
        self.purged = self.purged.max(Some(id));
        self.last = self.last.max(Some(id));
        while !self.cached.is_empty() && self.cached_from <= id.index {
            if let Some((_, bytes)) = self.cached.pop_front() {
                self.cached_bytes -= bytes as usize;
            }
            self.cached_from += 1;
        }
        while !self.positions.is_empty() && self.first <= id.index {
            self.positions.pop_front();
            self.first += 1;
        }
    }

    pub fn cached(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.cached_from)?;
        self.cached.get(at as usize).map(|(entry, _)| entry)
    }

    pub fn position(&self, index: u64) -> Option<Position> {
        let at = index.checked_sub(self.first)?;
        self.positions.get(at as usize).copied()
    }

    /// The last entry before the newest `segments` segments.
    pub fn last_before(&self, segments: u64) -> Option<u64> {
        let newest = self.positions.back()?.segment;
        let kept_from = (newest + 1).checked_sub(segments)?;
        let count = self
            .positions
            .partition_point(|position| position.segment < kept_from);
        (self.first + count as u64).checked_sub(1)
    }

    /// Where a read of `start..end` ends so that it takes at most `bytes`, or one entry.
    pub fn end_within(&self, start: u64, end: u64, bytes: usize) -> u64 {
        let mut left = bytes;
        for index in start..end {
            let len = match index.checked_sub(self.cached_from) {
                Some(at) if (at as usize) < self.cached.len() => self.cached[at as usize].1,
                _ => self.position(index).map_or(0, |position| position.len),
            };
            if len as usize > left && index > start {
                return index;
            }
            left = left.saturating_sub(len as usize);
        }
        end
    }

    /// The oldest segment that still holds an entry.
    pub fn oldest_segment(&self) -> Option<u64> {
        self.positions.front().map(|position| position.segment)
    }
}
