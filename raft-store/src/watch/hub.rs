//! The hub: apply leaves events here and goes on; a task of its own hands them to whom they concern.
//!
//! If the task falls behind the ring, watchers are told to read history. Apply never waits for anyone.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::index::{Group, Index};
use super::queue::Queue;
use super::ring::{Revision, Ring};
use crate::metrics::Metrics;
use crate::mvcc::Horizon;
use crate::planted::{Bug, planted};
use crate::{Event, WatchRequest, limits};

pub struct Hub {
    ring: Mutex<Ring>,
    /// Applied revision, of which the ring knows.
    applied: watch::Sender<i64>,
    published: Notify,
    watchers: Mutex<Watchers>,
    /// Revision up to which all was handed out.
    dispatched: watch::Sender<i64>,
    pub metrics: Metrics,
}

struct Watchers {
    index: Index,
    /// Revision up to which watchers in the index were given their events.
    dispatched: i64,
    closed: bool,
}

impl Hub {
    pub fn new(revision: i64, ring_bytes: usize, metrics: Metrics) -> Self {
        metrics.revision.set(revision);
        Self {
            ring: Mutex::new(Ring::new(
                revision,
                ring_bytes,
                limits::WATCH_RING_REVISIONS,
            )),
            applied: watch::Sender::new(revision),
            published: Notify::new(),
            watchers: Mutex::new(Watchers {
                index: Index::default(),
                dispatched: revision,
                closed: false,
            }),
            dispatched: watch::Sender::new(revision),
            metrics,
        }
    }

    /// Takes the events of newly applied revisions; called by apply, after the view shows them.
    pub fn publish(&self, horizon: Horizon, events: Vec<Arc<Event>>) {
        if *self.applied.borrow() == horizon.revision {
            return;
        }
        self.metrics.revision.set(horizon.revision);
        self.ring.lock().push(events);
        self.applied.send_replace(horizon.revision);
        if !self.pass_unwatched(horizon.revision) {
            self.published.notify_one();
        }
    }

    /// Without watchers there is nothing to hand out: spares the task a turn on another thread.
    fn pass_unwatched(&self, upto: i64) -> bool {
        let Some(mut watchers) = self.watchers.try_lock() else {
            return false;
        };
        if watchers.closed || !watchers.index.is_empty() {
            return false;
        }
        watchers.dispatched = upto;
        drop(watchers);
        self.tell_dispatched(upto);
        true
    }

    fn tell_dispatched(&self, upto: i64) {
        self.dispatched.send_if_modified(|told| {
            let newer = *told < upto;
            *told = upto.max(*told);
            newer
        });
    }

    /// The state was replaced by one at `horizon`: all watchers read what they miss from its history. Called after
    /// the view shows it.
    pub fn jump(&self, horizon: Horizon) {
        self.metrics.revision.set(horizon.revision);
        self.ring.lock().restart(horizon.revision);
        self.applied.send_replace(horizon.revision);
        self.published.notify_one();
    }

    /// Hands out events until the hub is closed.
    pub async fn dispatch(&self) {
        loop {
            self.published.notified().await;
            while self.dispatch_once() {
                tokio::task::yield_now().await;
            }
            if self.watchers.lock().closed {
                return;
            }
        }
    }

    /// Hands out what has been published; whether there may be more.
    fn dispatch_once(&self) -> bool {
        let mut watchers = self.watchers.lock();
        let from = watchers.dispatched + 1;
        // The revision is read first: everything up to it is in the ring by then.
        let upto = *self.applied.borrow();
        if upto < from {
            return false;
        }
        let revisions: Option<Vec<Revision>> = if watchers.index.is_empty() {
            Some(Vec::new())
        } else {
            let ring = self.ring.lock();
            ring.since(from).map(|found| {
                found
                    .take_while(|found| found.revision <= upto)
                    .cloned()
                    .collect()
            })
        };
        match revisions {
            Some(revisions) => {
                for revision in &revisions {
                    self.hand_out(&mut watchers.index, revision);
                }
            }
            // Fallen behind the ring.
            None => {
                let queues = watchers.index.groups().flatten();
                self.note_overflows(queues.filter(|queue| queue.overflow()).count());
            }
        }
        watchers.dispatched = upto;
        drop(watchers);
        self.tell_dispatched(upto);
        true
    }

    fn hand_out(&self, index: &mut Index, revision: &Revision) {
        if planted(Bug::DropWatchEvent) && revision.revision % 97 == 0 {
            return;
        }
        if let [event] = revision.events.as_ref() {
            index.matching(&event.kv.key, &mut |group| {
                self.metrics.watch_events.inc_by(group.len() as u64);
                self.push(group, revision);
            });
            return;
        }
        // Several events: gather each group's share first, so that no revision is split.
        let mut shares: Vec<(Group, Vec<Arc<Event>>)> = Vec::new();
        let mut known: std::collections::HashMap<usize, usize> = std::collections::HashMap::new();
        for event in revision.events.iter() {
            index.matching(&event.kv.key, &mut |group| {
                let share = *known.entry(group.as_ptr() as usize).or_insert_with(|| {
                    shares.push((group.clone(), Vec::new()));
                    shares.len() - 1
                });
                shares[share].1.push(event.clone());
            });
        }
        for (group, events) in shares {
            self.metrics
                .watch_events
                .inc_by((group.len() * events.len()) as u64);
            let share = Revision {
                revision: revision.revision,
                events: events.into(),
            };
            self.push(&group, &share);
        }
    }

    fn push(&self, group: &Group, revision: &Revision) {
        let full = group.iter().filter(|queue| queue.push(revision));
        self.note_overflows(full.count());
    }

    fn note_overflows(&self, count: usize) {
        if count > 0 {
            self.metrics.watch_overflows.inc_by(count as u64);
        }
    }

    /// Sets the metrics that tell how far watchers are behind.
    pub fn measure(&self) {
        let revision = *self.applied.borrow();
        let (mut slow, mut lag, mut events) = (0, 0, 0);
        let watchers = self.watchers.lock();
        for queue in watchers.index.groups().flatten() {
            let backlog = queue.backlog(revision);
            slow += i64::from(backlog.reads_history);
            lag = lag.max(backlog.revisions);
            events += backlog.events as i64;
        }
        drop(watchers);
        self.metrics.slow_watchers.set(slow);
        self.metrics.watch_lag.set(lag);
        self.metrics.pending_events.set(events);
    }

    /// Adds a watcher; returns the revision after which its queue receives everything.
    pub fn register(&self, request: &WatchRequest) -> (Arc<Queue>, i64) {
        let queue = Arc::new(Queue::new(request.clone()));
        let mut watchers = self.watchers.lock();
        if watchers.closed {
            queue.close();
        } else {
            watchers.index.insert(&request.range, queue.clone());
            self.metrics.watchers.inc();
        }
        (queue, watchers.dispatched)
    }

    /// Lets an overflowed queue receive again; returns the revision after which it receives everything.
    pub fn resume(&self, queue: &Queue) -> i64 {
        let watchers = self.watchers.lock();
        queue.reset();
        watchers.dispatched
    }

    pub fn unregister(&self, queue: &Arc<Queue>) {
        let mut watchers = self.watchers.lock();
        if !watchers.closed {
            watchers.index.remove(&queue.filter.request.range, queue);
            self.metrics.watchers.dec();
        }
    }

    /// Ends all watchers.
    pub fn close(&self) {
        let mut watchers = self.watchers.lock();
        watchers.closed = true;
        let index = std::mem::take(&mut watchers.index);
        drop(watchers);
        index.groups().flatten().for_each(|queue| queue.close());
        self.published.notify_one();
    }

    /// Follows the revision up to which events were handed out.
    pub fn dispatched(&self) -> watch::Receiver<i64> {
        self.dispatched.subscribe()
    }

    /// Recent revisions from `from` on, if memory holds them all: at most `max`, none after `upto`.
    pub fn recent(&self, from: i64, upto: i64, max: usize) -> Option<Vec<Revision>> {
        let ring = self.ring.lock();
        let found = ring.since(from)?;
        Some(
            found
                .take_while(|found| found.revision <= upto)
                .take(max)
                .cloned()
                .collect(),
        )
    }
}
