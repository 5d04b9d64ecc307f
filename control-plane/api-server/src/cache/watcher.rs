//! One watcher's share of the changes: a bounded queue between the feed and the connection that reads it.
//!
//! The feed only ever appends; a watcher that lets its queue run full is cut off and starts again from the last
//! resourceVersion that it saw, so that it delays nobody and holds no memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use super::event::CacheEvent;
use crate::store::Revision;

/// Changes that wait for one watcher at most.
const QUEUE_LIMIT: usize = 8192;
/// Bytes of the objects in these changes at most, once more than [`EVENTS_KEPT`] wait.
const QUEUE_BYTES_LIMIT: usize = 8 << 20;
/// Changes that may wait whatever their size.
const EVENTS_KEPT: usize = 16;

/// What a watcher may be interested in, as far as the feed sorts changes by it. Selectors are the watcher's own affair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interest {
    All,
    Namespace(Box<str>),
    /// The key of one object.
    Object(Box<str>),
    /// Pods bound to one node.
    Node(Box<str>),
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Arc<CacheEvent>>,
    bytes: usize,
    /// The watcher is cut off: it was too slow, or the cache started over.
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    /// Changes up to here are no news.
    start: Revision,
}

/// The reading end. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Watcher(Arc<Shared>);

/// What is there to read.
#[derive(Debug)]
pub(crate) enum WatcherEvents {
    Events(VecDeque<Arc<CacheEvent>>),
    /// Nothing more will come.
    Closed,
}

impl Watcher {
    /// Takes all that waits.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<WatcherEvents> {
        if let Some(events) = self.take() {
            return Poll::Ready(events);
        }
        self.0.waker.register(cx.waker());
        self.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn take(&self) -> Option<WatcherEvents> {
        let mut queue = self.0.queue.lock();
        if queue.events.is_empty() {
            return queue.closed.then_some(WatcherEvents::Closed);
        }
        queue.bytes = 0;
        Some(WatcherEvents::Events(std::mem::take(&mut queue.events)))
    }
}

/// The watchers of one kind, sorted by interest.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_interest: HashMap<Interest, Vec<Weak<Shared>>>,
    len: usize,
}

impl Watchers {
    pub fn add(
        &mut self,
        interest: Interest,
        start: Revision,
        backlog: VecDeque<Arc<CacheEvent>>,
    ) -> Watcher {
        // Watchers that went away unseen are cleared out each time their number could have doubled.
        if self.len.is_power_of_two() {
            self.sweep();
        }
        let queue = Mutex::new(Queue {
            bytes: backlog.iter().map(|event| event.weight()).sum(),
            events: backlog,
            closed: false,
        });
        let shared = Arc::new(Shared {
            queue,
            waker: AtomicWaker::new(),
            start,
        });
        self.by_interest
            .entry(interest)
            .or_default()
            .push(Arc::downgrade(&shared));
        self.len += 1;
        Watcher(shared)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn dispatch(&mut self, event: &Arc<CacheEvent>, interest: Interest) {
        let Some(watchers) = self.by_interest.get_mut(&interest) else {
            return;
        };
        let before = watchers.len();
        watchers.retain(|watcher| watcher.upgrade().is_some_and(|w| w.push(event)));
        self.len -= before - watchers.len();
        if watchers.is_empty() {
            self.by_interest.remove(&interest);
        }
    }

    /// Forgets watchers that are gone without a change having told so.
    fn sweep(&mut self) {
        self.by_interest.retain(|_, watchers| {
            watchers.retain(|w| w.strong_count() > 0);
            !watchers.is_empty()
        });
        self.len = self.by_interest.values().map(Vec::len).sum();
    }

    /// Cuts everyone off.
    pub fn close(&mut self) {
        for watcher in self
            .by_interest
            .drain()
            .flat_map(|(_, w)| w)
            .filter_map(|w| w.upgrade())
        {
            watcher.queue.lock().closed = true;
            watcher.waker.wake();
        }
        self.len = 0;
    }
}

impl Shared {
    /// Whether the watcher still takes part.
    fn push(&self, event: &Arc<CacheEvent>) -> bool {
        if event.revision <= self.start {
            return true;
        }
        let mut queue = self.queue.lock();
        let waiting = queue.events.len();
        let bytes = queue.bytes + event.weight();
        if waiting >= QUEUE_LIMIT || (bytes > QUEUE_BYTES_LIMIT && waiting >= EVENTS_KEPT) {
            *queue = Queue {
                closed: true,
                ..Queue::default()
            };
        } else {
            queue.bytes = bytes;
            queue.events.push_back(event.clone());
        }
        let (open, first) = (!queue.closed, queue.events.len() <= 1);
        drop(queue);
        if first {
            self.waker.wake();
        }
        open
    }
}
