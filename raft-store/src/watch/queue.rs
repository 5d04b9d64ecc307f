//! What waits for one watcher: bounded; when it overflows it is emptied and the watcher reads history instead.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ring::Revision;
use crate::{Event, EventKind, WatchRequest};

/// Revisions for one watcher, already filtered.
pub struct Queue {
    pub filter: Filter,
    state: Mutex<State>,
    pub arrived: Notify,
}

#[derive(Default)]
struct State {
    revisions: VecDeque<Revision>,
    overflowed: bool,
    closed: bool,
}

/// What a watcher found in its queue.
pub enum Found {
    Nothing,
    Revisions(Vec<Revision>),
    /// Some revisions were dropped: all that is missing must be read from history.
    Overflowed,
    Closed,
}

/// Which events a watcher wants of those in its range.
#[derive(Clone, Debug)]
pub struct Filter {
    pub request: WatchRequest,
}

impl Filter {
    pub fn wants(&self, event: &Event) -> bool {
        let kind = match event.kind {
            EventKind::Put => !self.request.no_put,
            EventKind::Delete => !self.request.no_delete,
        };
        kind && self.request.range.contains(&event.kv.key)
    }

    fn drops_kinds(&self) -> bool {
        self.request.no_put || self.request.no_delete
    }

    /// The revision's events that the watcher wants; shared if that is all of them.
    pub fn apply(&self, revision: &Revision) -> Option<Revision> {
        if revision.events.iter().all(|event| self.wants(event)) {
            return Some(revision.clone());
        }
        let events: Arc<[_]> = revision
            .events
            .iter()
            .filter(|event| self.wants(event))
            .cloned()
            .collect();
        (!events.is_empty()).then_some(Revision {
            revision: revision.revision,
            events,
        })
    }

    /// Events that are known to lie in the range: only the kinds are left to look at.
    pub fn apply_to_matched(&self, revision: &Revision) -> Option<Revision> {
        if self.drops_kinds() {
            self.apply(revision)
        } else {
            Some(revision.clone())
        }
    }
}

impl Queue {
    pub fn new(request: WatchRequest) -> Self {
        Self {
            filter: Filter { request },
            state: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// Adds a revision that lies in the watcher's range.
    pub fn push(&self, revision: &Revision, limit: usize) {
        let Some(revision) = self.filter.apply_to_matched(revision) else {
            return;
        };
        let mut state = self.state.lock();
        if state.overflowed || revision.revision < self.filter.request.start_revision {
            return;
        }
        if state.revisions.len() >= limit {
            state.revisions = VecDeque::new();
            state.overflowed = true;
        } else {
            state.revisions.push_back(revision);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Drops what waits: the events in between were not handed out.
    pub fn overflow(&self) {
        let mut state = self.state.lock();
        state.revisions = VecDeque::new();
        state.overflowed = true;
        drop(state);
        self.arrived.notify_one();
    }

    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Starts over after an overflow.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        state.revisions.clear();
        state.overflowed = false;
    }

    pub fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.revisions.is_empty() && !state.overflowed
    }

    /// Takes revisions until `max_revisions` or `max_events` is reached.
    pub fn take(&self, max_revisions: usize, max_bytes: usize) -> Found {
        let mut state = self.state.lock();
        if state.overflowed {
            return Found::Overflowed;
        }
        if state.revisions.is_empty() {
            return if state.closed {
                Found::Closed
            } else {
                Found::Nothing
            };
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < max_revisions
            && bytes < max_bytes
            && let Some(revision) = state.revisions.pop_front()
        {
            bytes += size(&revision);
            taken.push(revision);
        }
        Found::Revisions(taken)
    }
}

/// Bytes of keys and values.
pub fn size(revision: &Revision) -> usize {
    revision
        .events
        .iter()
        .map(|event| event.kv.key.len() + event.kv.value.len())
        .sum()
}
