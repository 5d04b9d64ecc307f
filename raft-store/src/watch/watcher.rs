//! The receiving end of a watch: history first if it starts in the past, then its queue.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::history;
use super::hub::Hub;
use super::queue::{Found, Queue, size};
use super::ring::Revision;
use crate::raft::Applied;
use crate::{WatchBatch, WatchError, WatchRequest, limits};

/// Delivers the changes of a range, in order, each exactly once, never a part of a revision.
pub struct Watcher {
    hub: Arc<Hub>,
    view: Arc<ArcSwap<Applied>>,
    queue: Arc<Queue>,
    dispatched: watch::Receiver<i64>,
    /// Everything up to here was returned.
    delivered: i64,
    /// Up to here history must be read; after it the queue holds everything.
    history_until: i64,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.queue.filter.request;
        f.debug_struct("Watcher")
            .field("request", request)
            .field("delivered", &self.delivered)
            .finish()
    }
}

impl Watcher {
    /// Registers a watcher. `request.start_revision` 0 means after what is applied now.
    pub fn new(hub: Arc<Hub>, view: Arc<ArcSwap<Applied>>, mut request: WatchRequest) -> Self {
        let applied = view.load().horizon.revision;
        if request.start_revision <= 0 {
            request.start_revision = applied + 1;
        }
        let dispatched = hub.dispatched();
        let (queue, history_until) = hub.register(&request);
        let delivered = request.start_revision - 1;
        queue.note_taken(delivered, delivered < history_until);
        Self {
            hub,
            view,
            queue,
            dispatched,
            delivered,
            history_until,
        }
    }

    /// The next batch; waits until there is one. Cancel-safe.
    pub async fn next(&mut self) -> Result<WatchBatch, WatchError> {
        loop {
            // Read before the queue is looked at: what is dispatched by now is in the queue by then.
            let dispatched = *self.dispatched.borrow_and_update();
            if let Some(batch) = self.poll(dispatched)? {
                return Ok(batch);
            }
            if self.queue.filter.request.progress {
                tokio::select! {
                    () = self.queue.arrived.notified() => {}
                    changed = self.dispatched.changed() => changed.map_err(|_| WatchError::Closed)?,
                }
            } else {
                self.queue.arrived.notified().await;
            }
        }
    }

    /// A batch, if one is there. `dispatched` is a revision whose events the queue was given.
    fn poll(&mut self, dispatched: i64) -> Result<Option<WatchBatch>, WatchError> {
        while self.delivered < self.history_until {
            let batch = self.read_past()?;
            // A past without events is progress too: nobody else will tell it before the next change.
            if !batch.events.is_empty() || self.queue.filter.request.progress {
                return Ok(Some(batch));
            }
        }
        match self
            .queue
            .take(limits::WATCH_BATCH_REVISIONS, limits::WATCH_BATCH_BYTES)
        {
            Found::Revisions(revisions) => {
                let batch = batch_of(revisions);
                self.advance(self.delivered.max(batch.revision));
                Ok(Some(batch))
            }
            Found::Overflowed => {
                self.history_until = self.hub.resume(&self.queue);
                self.advance(self.delivered);
                self.poll(dispatched)
            }
            Found::Closed => Err(WatchError::Closed),
            Found::Nothing => {
                let news = dispatched > self.delivered;
                self.advance(self.delivered.max(dispatched));
                let wanted = news && self.queue.filter.request.progress;
                Ok(wanted.then(|| WatchBatch {
                    revision: self.delivered,
                    events: Vec::new(),
                }))
            }
        }
    }

    /// Everything up to a revision is about to be returned.
    fn advance(&mut self, upto: i64) {
        self.delivered = upto;
        self.queue.note_taken(upto, upto < self.history_until);
    }

    /// Reads a stretch of the past, from memory or from disk.
    fn read_past(&mut self) -> Result<WatchBatch, WatchError> {
        let from = self.delivered + 1;
        let filter = &self.queue.filter;
        let max = limits::WATCH_BATCH_REVISIONS;
        let (mut revisions, mut upto) = match self.hub.recent(from, self.history_until, max) {
            Some(recent) => {
                let full = recent.len() == max;
                let upto = recent
                    .last()
                    .filter(|_| full)
                    .map_or(self.history_until, |last| last.revision);
                (
                    recent
                        .iter()
                        .filter_map(|revision| filter.apply(revision))
                        .collect(),
                    upto,
                )
            }
            None => {
                let view = self.view.load();
                // The floor itself may still be watched.
                if from < view.horizon.compacted {
                    return Err(WatchError::Compacted {
                        compact_revision: view.horizon.compacted,
                    });
                }
                let wants = |event: &crate::Event| filter.wants(event);
                let stretch = history::read(
                    &view.snapshot,
                    from,
                    self.history_until,
                    max,
                    filter.request.prev_kv,
                    &wants,
                );
                let stretch = stretch.map_err(|error| WatchError::Storage(error.to_string()))?;
                (stretch.revisions, stretch.upto)
            }
        };
        cut(&mut revisions, &mut upto);
        let mut batch = batch_of(revisions);
        self.advance(upto);
        batch.revision = upto;
        Ok(batch)
    }

    /// The revision up to which `next` has returned every event, or `None` while events are still waiting.
    pub fn progress(&self) -> Option<i64> {
        let dispatched = *self.dispatched.borrow();
        let synced = self.delivered >= self.history_until && self.queue.is_empty();
        // A watcher that starts in the future has no progress before that.
        let started = self.delivered <= self.view.load().horizon.revision;
        (synced && started).then(|| self.delivered.max(dispatched))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.unregister(&self.queue);
    }
}

/// Ends the stretch after the revision with which it passes the size of a batch.
fn cut(revisions: &mut Vec<Revision>, upto: &mut i64) {
    let mut bytes = 0;
    let over = revisions.iter().position(|revision| {
        bytes += size(revision);
        bytes >= limits::WATCH_BATCH_BYTES
    });
    if let Some(last) = over
        && last + 1 < revisions.len()
    {
        *upto = revisions[last].revision;
        revisions.truncate(last + 1);
    }
}

fn batch_of(revisions: Vec<Revision>) -> WatchBatch {
    let revision = revisions.last().map_or(0, |last| last.revision);
    let mut events =
        Vec::with_capacity(revisions.iter().map(|revision| revision.events.len()).sum());
    for revision in revisions {
        events.extend(revision.events.iter().cloned());
    }
    WatchBatch { revision, events }
}
