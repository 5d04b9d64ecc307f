//! The most recent revisions with their events, bounded in number and bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Event, KeyValue};

/// All events of one revision.
#[derive(Clone, Debug)]
pub struct Revision {
    pub revision: i64,
    pub events: Arc<[Arc<Event>]>,
}

/// Recent revisions, oldest first.
#[derive(Debug)]
pub struct Ring {
    revisions: VecDeque<(Revision, usize)>,
    bytes: usize,
    max_bytes: usize,
    max_revisions: usize,
    /// Every revision from this one on is here (those without events have no entry).
    complete_from: i64,
}

impl Ring {
    /// An empty ring of a store at `revision`.
    pub fn new(revision: i64, max_bytes: usize, max_revisions: usize) -> Self {
        Self {
            revisions: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_revisions,
            complete_from: revision + 1,
        }
    }

    /// Forgets everything up to `revision`.
    pub fn restart(&mut self, revision: i64) {
        self.revisions.clear();
        self.bytes = 0;
        self.complete_from = revision + 1;
    }

    /// Takes in the events of newly applied revisions.
    pub fn push(&mut self, events: Vec<Arc<Event>>) {
        for events in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            let revision = events[0].kv.mod_revision;
            let bytes = events.iter().map(|event| event_bytes(event)).sum();
            self.revisions.push_back((
                Revision {
                    revision,
                    events: events.into(),
                },
                bytes,
            ));
            self.bytes += bytes;
        }
        while self.revisions.len() > self.max_revisions
            || (self.bytes > self.max_bytes && self.revisions.len() > 1)
        {
            if let Some((dropped, bytes)) = self.revisions.pop_front() {
                self.bytes -= bytes;
                self.complete_from = dropped.revision + 1;
            }
        }
    }

    /// The revisions from `from` on, or `None` if the ring does not reach back so far.
    pub fn since(&self, from: i64) -> Option<impl Iterator<Item = &Revision>> {
        if from < self.complete_from {
            return None;
        }
        let start = self
            .revisions
            .partition_point(|(revision, _)| revision.revision < from);
        Some(self.revisions.range(start..).map(|(revision, _)| revision))
    }
}

fn event_bytes(event: &Event) -> usize {
    const OVERHEAD: usize = 200;
    let size = |kv: &KeyValue| kv.key.len() + kv.value.len();
    OVERHEAD + size(&event.kv) + event.prev_kv.as_ref().map_or(0, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventKind;

    fn event(revision: i64) -> Arc<Event> {
        let kv = KeyValue {
            key: "k".into(),
            mod_revision: revision,
            ..Default::default()
        };
        Arc::new(Event {
            kind: EventKind::Put,
            kv,
            prev_kv: None,
            encoded: Default::default(),
        })
    }

    #[test]
    fn forgets_the_oldest_and_says_so() {
        let mut ring = Ring::new(1, usize::MAX, 3);
        ring.push(vec![event(2), event(2), event(3)]);
        ring.push(vec![event(5), event(6)]);
        let revisions = |from| {
            ring.since(from)
                .map(|found| found.map(|r| r.revision).collect::<Vec<_>>())
        };
        assert_eq!(revisions(2), None);
        assert_eq!(revisions(3), Some(vec![3, 5, 6]));
        assert_eq!(revisions(4), Some(vec![5, 6]));
        assert_eq!(revisions(7), Some(vec![]));
    }
}
