//! A work queue of keys, as in client-go: a key waits at most once, is never worked on twice at the same time, may be
//! added with a delay, and backs off by itself while it keeps failing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Delay after the first failure of a key; doubles with each further one.
const BASE_DELAY: Duration = Duration::from_millis(5);
/// No key waits longer than this after a failure.
const MAX_DELAY: Duration = Duration::from_secs(1000);

struct State<T> {
    ready: VecDeque<T>,
    /// Everything in `ready`, and what was added while it was being worked on.
    dirty: HashSet<T>,
    working: HashSet<T>,
    delayed: BinaryHeap<Reverse<(Instant, u64, Slot<T>)>>,
    failures: HashMap<T, u32>,
    sequence: u64,
    closed: bool,
}

/// A key that does not take part in the heap's order.
struct Slot<T>(T);
impl<T> PartialEq for Slot<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<T> Eq for Slot<T> {}
impl<T> PartialOrd for Slot<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Slot<T> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// The queue. Cheap to clone.
pub struct WorkQueue<T>(Arc<(Mutex<State<T>>, Notify)>);

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + Eq + Hash> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            delayed: BinaryHeap::new(),
            failures: HashMap::new(),
            sequence: 0,
            closed: false,
        };
        Self(Arc::new((Mutex::new(state), Notify::new())))
    }

    pub fn add(&self, key: T) {
        self.0.0.lock().add(key);
        self.0.1.notify_one();
    }

    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.0.0.lock();
        state.sequence += 1;
        let entry = (Instant::now() + delay, state.sequence, Slot(key));
        state.delayed.push(Reverse(entry));
        drop(state);
        self.0.1.notify_one();
    }

    /// Adds the key again later, the later the more often it has failed.
    pub fn retry(&self, key: T) {
        let delay = {
            let mut state = self.0.0.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = BASE_DELAY
                .saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX))
                .min(MAX_DELAY);
            *failures = failures.saturating_add(1);
            delay
        };
        self.add_after(key, delay);
    }

    /// The key worked out: its next failure is its first.
    pub fn forget(&self, key: &T) {
        self.0.0.lock().failures.remove(key);
    }

    pub fn failures(&self, key: &T) -> u32 {
        self.0.0.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Keys that could be worked on now.
    pub fn len(&self) -> usize {
        self.0.0.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key, or none once the queue is closed. Every key taken must be given back with [`done`](Self::done).
    pub async fn next(&self) -> Option<T> {
        loop {
            let notified = self.0.1.notified();
            let deadline = {
                let mut state = self.0.0.lock();
                if state.closed {
                    self.0.1.notify_one();
                    return None;
                }
                state.release_due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.0.1.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.peek().map(|Reverse((at, ..))| *at)
            };
            match deadline {
                None => notified.await,
                Some(at) => tokio::select! { () = notified => {}, () = sleep_until(at) => {} },
            }
        }
    }

    /// Work on the key has ended; if it was added meanwhile, it is ready again.
    pub fn done(&self, key: &T) {
        let mut state = self.0.0.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.0.1.notify_one();
        }
    }

    /// Ends every [`next`](Self::next), now and later.
    pub fn close(&self) {
        self.0.0.lock().closed = true;
        self.0.1.notify_waiters();
        self.0.1.notify_one();
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn add(&mut self, key: T) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn release_due(&mut self, now: Instant) {
        while self
            .delayed
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= now)
        {
            let Reverse((_, _, Slot(key))) = self.delayed.pop().expect("just peeked");
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_is_not_worked_on_twice() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.len(), 1);
        let key = queue.next().await.expect("open");
        queue.add("a");
        assert_eq!(queue.len(), 0, "not handed out while it is being worked on");
        queue.done(&key);
        assert_eq!(queue.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_keys_come_in_order_of_time() {
        let queue = WorkQueue::new();
        queue.add_after("late", Duration::from_secs(20));
        queue.add_after("soon", Duration::from_secs(10));
        assert_eq!(queue.next().await, Some("soon"));
        assert_eq!(queue.next().await, Some("late"));
    }

    #[tokio::test]
    async fn close_ends_waiters() {
        let queue = WorkQueue::<u8>::new();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(waiting.await.expect("no panic"), None);
    }
}
