//! The recent changes of one kind, bounded: what watches resume from and what undoes the cache to an older revision.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::event::CacheEvent;
use super::object::CachedObject;
use crate::store::Revision;

/// Changes that one kind remembers at most.
const EVENTS_LIMIT: usize = 8192;
/// Bytes of objects that one kind's changes hold at most, once there are more than [`EVENTS_KEPT`] of them.
const BYTES_LIMIT: usize = 4 << 20;
/// Changes that are remembered whatever their size.
const EVENTS_KEPT: usize = 128;

/// Recent changes, oldest first.
#[derive(Debug)]
pub(super) struct History {
    events: VecDeque<Arc<CacheEvent>>,
    bytes: usize,
    /// Every change after this revision is held.
    since: Revision,
}

impl History {
    pub fn new(since: Revision) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            since,
        }
    }

    /// Every change after this revision is held.
    pub fn since(&self) -> Revision {
        self.since
    }

    pub fn push(&mut self, event: Arc<CacheEvent>) {
        self.bytes += event.weight();
        self.events.push_back(event);
        while self.events.len() > EVENTS_LIMIT
            || (self.bytes > BYTES_LIMIT && self.events.len() > EVENTS_KEPT)
        {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.weight();
            self.since = oldest.revision;
        }
    }

    /// Changes after `revision`, in order.
    pub fn after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = &Arc<CacheEvent>> {
        let first = self.events.partition_point(|e| e.revision <= revision);
        self.events.range(first..)
    }

    /// What differs between now and `revision` below a key prefix: the state then, none for objects that were not there.
    pub fn undo(
        &self,
        revision: Revision,
        prefix: &str,
    ) -> BTreeMap<&str, Option<&Arc<CachedObject>>> {
        let mut then = BTreeMap::new();
        for event in self
            .after(revision)
            .rev()
            .filter(|e| e.key().starts_with(prefix))
        {
            then.insert(event.key(), event.previous.as_ref());
        }
        then
    }
}
