//! The log as openraft sees it: votes, entries, truncation and purge, all through the flusher's queue.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::Notify;

use super::appender::{Appender, Blocks};
use super::flusher::{self, Flusher, Queue, Shared, Waiter};
use super::record::{Framed, Record};
use super::recover::recover;
use super::segment::Directory;
use super::spare::SpareMaker;
use super::state::Position;
use crate::config::OpenError;
use crate::limits;
use crate::metrics::Metrics;
use crate::raft::{Entry, LogId, Payload, TypeConfig, Vote, Votes};

/// The log of one member.
pub struct LogStorage {
    shared: Arc<Shared>,
    directory: Directory,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Cleared before an entry that gives the cluster a second voter is written.
    sole_voter: Arc<AtomicBool>,
}

impl LogStorage {
    /// Opens the log in `path`; `checkpoint_due` is told when the log has grown enough to be purged.
    pub fn open(
        path: &Path,
        segment_bytes: u64,
        member: u64,
        metrics: Metrics,
        checkpoint_due: Arc<Notify>,
        sole_voter: Arc<AtomicBool>,
    ) -> Result<Self, OpenError> {
        let directory = Directory::open(path.to_owned(), segment_bytes).map_err(OpenError::Log)?;
        let found = recover(&directory, member)?;
        if let Some(newest) = found.segments.last() {
            // What a killed process wrote may not have reached the disk, and from now on is relied on.
            directory.sync_segment(*newest).map_err(OpenError::Log)?;
        }
        if found.torn_bytes > 0 {
            tracing::info!(
                bytes = found.torn_bytes,
                "cut an unfinished write from the end of the log"
            );
        }
        let committed = found.state.committed;
        let shared = Arc::new(Shared::new(found.state, member, metrics, checkpoint_due));
        let mut blocks = Blocks::default();
        let active = found
            .active
            .map(|(segment, end)| Appender::new(&directory, segment, end, &mut blocks));
        let flusher = Flusher {
            active: active.transpose().map_err(OpenError::Log)?,
            blocks,
            spares: SpareMaker::new(directory.clone()),
            directory: directory.clone(),
            next_number: found.next_number,
            segments: found.segments,
            batch: Queue::default(),
            committed,
            sync_time: Duration::ZERO,
        };
        let thread = flusher::start(&shared, flusher).map_err(OpenError::Log)?;
        Ok(Self {
            shared,
            directory,
            thread,
            sole_voter,
        })
    }

    pub fn enqueue(&self, records: impl Iterator<Item = Record>, waiter: Option<Waiter>) {
        self.shared.enqueue(records, waiter);
    }

    /// The last entry that was purged.
    pub fn purged(&self) -> Option<LogId> {
        self.shared.state.lock().purged
    }

    /// Up to which entry the log may be purged: what is kept is for members that were away for a while.
    pub fn purgeable(&self) -> Arc<dyn Fn() -> Option<u64> + Send + Sync> {
        let (shared, sole_voter) = (self.shared.clone(), self.sole_voter.clone());
        Arc::new(move || {
            if sole_voter.load(Ordering::SeqCst) {
                return Some(u64::MAX);
            }
            shared.state.lock().last_before(limits::LOG_SEGMENTS_KEPT)
        })
    }

    pub fn votes(&self) -> Arc<dyn Votes> {
        self.shared.clone()
    }

    pub fn reader(&self) -> LogReader {
        LogReader {
            shared: self.shared.clone(),
            directory: self.directory.clone(),
            files: HashMap::new(),
        }
    }
}

impl Drop for LogStorage {
    fn drop(&mut self) {
        self.shared.stop();
        // None in a simulation, where stopping is all.
        if let Some(thread) = self.thread.take() {
            // It ends the process rather than panic.
            let _ = thread.join();
        }
    }
}

/// Reads entries from memory, or from their segment.
pub struct LogReader {
    shared: Arc<Shared>,
    directory: Directory,
    files: HashMap<u64, File>,
}

impl LogReader {
    fn read(&mut self, position: Position) -> io::Result<Entry> {
        if self.files.len() > 4 {
            self.files.clear();
        }
        let file = match self.files.entry(position.segment) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(File::open(self.directory.path_of(position.segment))?)
            }
        };
        let mut bytes = vec![0; position.len as usize];
        file.read_exact_at(&mut bytes, u64::from(position.offset))?;
        let place = || {
            format!(
                "{} offset {}",
                self.directory.path_of(position.segment).display(),
                position.offset
            )
        };
        let framed = Framed::at(&Bytes::from(bytes), 0, position.segment).ok_or_else(|| {
            io::Error::other(format!("the log is damaged: {}: bad checksum", place()))
        })?;
        match framed.decode() {
            Ok(Record::Entry(entry)) => Ok(entry),
            Ok(_) => Err(io::Error::other(format!(
                "the log is damaged: {}: not an entry",
                place()
            ))),
            Err(error) => Err(io::Error::other(format!(
                "the log is damaged: {}: {error}",
                place()
            ))),
        }
    }

    pub fn entries(&mut self, range: impl RangeBounds<u64>) -> io::Result<Vec<Entry>> {
        let mut index = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let mut entries = Vec::new();
        loop {
            let beyond = match range.end_bound() {
                Bound::Included(end) => index > *end,
                Bound::Excluded(end) => index >= *end,
                Bound::Unbounded => false,
            };
            if beyond {
                return Ok(entries);
            }
            let position = {
                let state = self.shared.state.lock();
                match state.cached(index) {
                    Some(entry) => {
                        entries.push(entry.clone());
                        None
                    }
                    None => match state.position(index) {
                        Some(position) => Some(position),
                        None => return Ok(entries),
                    },
                }
            };
            if let Some(position) = position {
                entries.push(self.read(position)?);
            }
            index += 1;
        }
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.entries(range)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.state.lock().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let end = self
            .shared
            .state
            .lock()
            .end_within(start, end, limits::PEER_APPEND_BYTES);
        self.entries(start..end)
    }
}

impl RaftLogStorage<TypeConfig> for LogStorage {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.shared.state.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mut written = self.shared.queue_vote(*vote, true);
        // A higher one may have been promised meanwhile.
        let durable = |written: &Option<Vote>| written.is_some_and(|written| written >= *vote);
        let written = written.wait_for(durable).await;
        written
            .map(drop)
            .map_err(|_| io::Error::other("the log's flusher has ended"))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Alone it need not be durable: what was committed is found out again by the next leader.
        self.shared
            .enqueue([Record::Committed(committed)].into_iter(), None);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let sole_voter = &self.sole_voter;
        let records = entries.into_iter().inspect(|entry| {
            if let Payload::Membership(membership) = &entry.payload {
                sole_voter.store(membership.voter_ids().count() == 1, Ordering::SeqCst);
            }
        });
        let mut commands = 0;
        let records = records.map(|entry| {
            if let Payload::Normal(proposal) = &entry.payload {
                commands += proposal.batch().commands.len();
            }
            Record::Entry(entry)
        });
        let waiter = Waiter::Append(callback);
        // Nobody but the disk can answer before the only voter goes on: it may as well write by itself, and what comes
        // meanwhile shares the next entry. Large batches go to the flusher, so that the next is made ready meanwhile.
        self.shared.enqueue_here(records, waiter);
        let alone = self.sole_voter.load(Ordering::SeqCst);
        if alone && commands <= limits::LOG_COMMANDS_FLUSHED_HERE {
            self.shared.flush_here();
        } else {
            self.shared.wake();
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.shared
            .enqueue([Record::TruncatedAfter(last_log_id)].into_iter(), None);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.shared
            .enqueue([Record::Purged(log_id)].into_iter(), None);
        Ok(())
    }
}
