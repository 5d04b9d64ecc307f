//! What waits for one watcher: bounded in revisions and bytes; when it overflows it is emptied and the watcher reads history
//! instead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ring::Revision;
use crate::{Event, EventKind, KeyValue, WatchRequest, limits};

/// Revisions for one watcher, already filtered.
pub struct Queue {
    pub filter: Filter,
    state: Mutex<State>,
    pub arrived: Notify,
    /// Its watcher reads history.
    behind: AtomicBool,
    /// Up to here its watcher has taken everything.
    taken: AtomicI64,
}

#[derive(Default)]
struct State {
    revisions: VecDeque<Revision>,
    /// What `held` says of them, together.
    bytes: usize,
    events: usize,
    overflowed: bool,
    closed: bool,
}

impl State {
    fn push(&mut self, revision: Revision) {
        self.bytes += held(&revision);
        self.events += revision.events.len();
        self.revisions.push_back(revision);
    }

    fn pop(&mut self) -> Option<Revision> {
        let revision = self.revisions.pop_front()?;
        self.bytes -= held(&revision);
        self.events -= revision.events.len();
        Some(revision)
    }

    fn is_full(&self, revision: &Revision) -> bool {
        self.revisions.len() >= limits::WATCH_QUEUE_REVISIONS
            || (self.bytes + held(revision) > limits::WATCH_QUEUE_BYTES
                && !self.revisions.is_empty())
    }

    fn clear(&mut self) {
        self.revisions = VecDeque::new();
        (self.bytes, self.events) = (0, 0);
    }
}

/// How far a watcher is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// It reads history, or must.
    pub reads_history: bool,
    /// Revisions that it has not been given.
    pub revisions: i64,
    /// Events that wait in its queue.
    pub events: usize,
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
            behind: AtomicBool::new(false),
            taken: AtomicI64::new(0),
        }
    }

    /// Adds a revision that lies in the watcher's range; whether the queue is given up for it.
    pub fn push(&self, revision: &Revision) -> bool {
        let Some(revision) = self.filter.apply_to_matched(revision) else {
            return false;
        };
        let mut state = self.state.lock();
        if state.overflowed || revision.revision < self.filter.request.start_revision {
            return false;
        }
        let full = state.is_full(&revision);
        if full {
            state.clear();
            state.overflowed = true;
        } else {
            state.push(revision);
        }
        drop(state);
        self.arrived.notify_one();
        full
    }

    /// Drops what waits: the events in between were not handed out. False if that was so before.
    pub fn overflow(&self) -> bool {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.overflowed, true);
        state.clear();
        drop(state);
        self.arrived.notify_one();
        !before
    }

    /// The watcher has taken everything up to a revision, and reads history if it is `behind`.
    pub fn note_taken(&self, upto: i64, behind: bool) {
        self.taken.store(upto, Ordering::Relaxed);
        self.behind.store(behind, Ordering::Relaxed);
    }

    /// How far the watcher is behind a store at `revision`.
    pub fn backlog(&self, revision: i64) -> Backlog {
        let state = self.state.lock();
        let reads_history = state.overflowed || self.behind.load(Ordering::Relaxed);
        let taken = match state.revisions.front() {
            _ if reads_history => self.taken.load(Ordering::Relaxed),
            Some(first) => first.revision - 1,
            None => revision,
        };
        Backlog {
            reads_history,
            revisions: (revision - taken).max(0),
            events: state.events,
        }
    }

    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Starts over after an overflow.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        state.clear();
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
            && let Some(revision) = state.pop()
        {
            bytes += size(&revision);
            taken.push(revision);
        }
        Found::Revisions(taken)
    }
}

/// Bytes that a revision keeps in memory while it waits.
fn held(revision: &Revision) -> usize {
    let bytes = |kv: &KeyValue| kv.key.len() + kv.value.len();
    let events = revision.events.iter();
    let previous = events.filter_map(|event| event.prev_kv.as_ref());
    size(revision) + previous.map(bytes).sum::<usize>()
}

/// Bytes of keys and values.
pub fn size(revision: &Revision) -> usize {
    revision
        .events
        .iter()
        .map(|event| event.kv.key.len() + event.kv.value.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(revision: i64, bytes: usize) -> Revision {
        let kv = KeyValue {
            key: "k".into(),
            value: vec![0; bytes].into(),
            mod_revision: revision,
            ..Default::default()
        };
        let event = Event {
            kind: EventKind::Put,
            prev_kv: Some(kv.clone()),
            kv,
            encoded: Default::default(),
        };
        Revision {
            revision,
            events: [Arc::new(event)].into(),
        }
    }

    fn queue() -> Queue {
        let request = WatchRequest {
            range: crate::KeyRange::single("k"),
            ..Default::default()
        };
        Queue::new(request)
    }

    fn backlog(reads_history: bool, revisions: i64, events: usize) -> Backlog {
        Backlog {
            reads_history,
            revisions,
            events,
        }
    }

    #[test]
    fn a_queue_is_given_up_for_its_bytes_previous_states_included() {
        let queue = queue();
        let third = limits::WATCH_QUEUE_BYTES / 6;
        queue.note_taken(1, false);
        assert!(!queue.push(&revision(2, third)));
        assert!(!queue.push(&revision(3, third)));
        assert_eq!(queue.backlog(4), backlog(false, 3, 2));
        assert!(!queue.push(&revision(4, 0)), "no more than fits");
        assert!(queue.push(&revision(5, third)));
        assert!(!queue.push(&revision(6, 0)), "only once");
        assert_eq!(queue.backlog(6), backlog(true, 5, 0));
        assert!(matches!(queue.take(9, 9), Found::Overflowed));
        queue.reset();
        queue.note_taken(4, true);
        assert_eq!(queue.backlog(6), backlog(true, 2, 0));
        queue.note_taken(6, false);
        assert_eq!(queue.backlog(6), backlog(false, 0, 0));
    }

    #[test]
    fn one_revision_is_taken_in_however_large() {
        let queue = queue();
        assert!(!queue.push(&revision(2, limits::WATCH_QUEUE_BYTES)));
        assert!(queue.push(&revision(3, 0)));
    }

    #[test]
    fn a_queue_is_given_up_for_its_revisions() {
        let queue = queue();
        let full = limits::WATCH_QUEUE_REVISIONS as i64;
        assert!((0..full).all(|at| !queue.push(&revision(at + 2, 0))));
        assert!(matches!(queue.take(1, 9), Found::Revisions(taken) if taken.len() == 1));
        assert!(!queue.push(&revision(full + 2, 0)));
        assert!(queue.push(&revision(full + 3, 0)));
    }
}
