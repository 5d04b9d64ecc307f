//! Pods that wait to be placed: ready ones by priority and age, failed ones until something changes or time passes.
//!
//! Pure: the time is handed in. A pod that did not fit waits until an event that one of the refusing plugins named, and
//! not before its backoff has ended (1 s, doubling to 10 s).

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api_client::ObjectKey;
use tokio::time::Instant;

use crate::framework::Wakes;
use crate::pod_info::PodInfo;

const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A pod that nothing has woken is tried again after this long all the same.
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(300);

/// A waiting pod.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub pod: Arc<PodInfo>,
    /// When it came first.
    since: Instant,
    /// How often it has been tried.
    attempts: u32,
    /// The number of the event that was newest when it was taken out for a try.
    taken_at_event: u64,
}

impl Waiting {
    fn backoff(&self) -> Duration {
        INITIAL_BACKOFF
            .saturating_mul(1 << self.attempts.saturating_sub(1).min(10))
            .min(MAX_BACKOFF)
    }
}

#[derive(Debug)]
enum Place {
    Ready(Order),
    /// Ready at that time.
    Backoff(Instant),
    Unschedulable {
        wakes: Wakes,
        backoff_until: Instant,
        retry_at: Instant,
    },
    /// Has scheduling gates: waits for an update of its own.
    Gated,
}

/// Higher priority first, then older, then earlier in the queue.
type Order = (Reverse<i32>, Instant, u64);

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: HashMap<ObjectKey, (Waiting, Place)>,
    ready: BTreeSet<(Order, ObjectKey)>,
    timers: BTreeSet<(Instant, ObjectKey)>,
    sequence: u64,
    /// Counts events that may have made a pod schedulable, with the newest of each sort.
    events: Vec<(u64, Wakes)>,
    event: u64,
}

/// Events remembered for pods that are being tried while they happen.
const EVENTS_LIMIT: usize = 256;

impl Queue {
    /// A new or changed pod. One that waits already keeps its age, and is ready at once.
    pub fn add(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let gated = pod
            .spec()
            .and_then(|s| s.scheduling_gates.as_ref())
            .is_some_and(|g| !g.is_empty());
        let key = pod.key.clone();
        let waiting = match self.take(&key) {
            Some(mut waiting) => {
                waiting.pod = pod;
                waiting
            }
            None => Waiting {
                pod,
                since: now,
                attempts: 0,
                taken_at_event: 0,
            },
        };
        if gated {
            self.waiting.insert(key, (waiting, Place::Gated));
        } else {
            self.make_ready(waiting);
        }
    }

    /// A newer form of a waiting pod that changes nothing about its chances (its status).
    pub fn refresh(&mut self, pod: Arc<PodInfo>) -> bool {
        let entry = self.waiting.get_mut(&pod.key);
        entry.map(|(waiting, _)| waiting.pod = pod).is_some()
    }

    pub fn remove(&mut self, key: &ObjectKey) {
        self.take(key);
    }

    /// The next pod to try, if one is ready.
    pub fn pop(&mut self, now: Instant) -> Option<Waiting> {
        self.release_due(now);
        let (_, key) = self.ready.pop_first()?;
        let (mut waiting, _) = self.waiting.remove(&key).expect("a ready pod waits");
        waiting.attempts += 1;
        waiting.taken_at_event = self.event;
        Some(waiting)
    }

    /// When [`pop`](Self::pop) may have something that it has not now.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// No node took the pod; `wakes` may help. What happened while it was tried counts.
    pub fn unschedulable(&mut self, waiting: Waiting, wakes: Wakes, now: Instant) {
        let missed = self
            .events
            .iter()
            .any(|(n, event)| *n > waiting.taken_at_event && event.intersects(wakes));
        let forgotten = self
            .events
            .first()
            .is_some_and(|(n, _)| *n > waiting.taken_at_event + 1);
        if missed || forgotten {
            return self.back_off(waiting, now);
        }
        let backoff_until = now + waiting.backoff();
        let place = Place::Unschedulable {
            wakes,
            backoff_until,
            retry_at: now + MAX_UNSCHEDULABLE,
        };
        self.insert(waiting, place);
    }

    /// The try failed for a reason that lies outside the pod: try again soon.
    pub fn back_off(&mut self, waiting: Waiting, now: Instant) {
        let until = now + waiting.backoff();
        self.insert(waiting, Place::Backoff(until));
    }

    /// Something happened that may help some of the pods that did not fit.
    pub fn wake(&mut self, event: Wakes, now: Instant) {
        self.event += 1;
        if self.events.len() >= EVENTS_LIMIT {
            self.events.drain(..EVENTS_LIMIT / 2);
        }
        self.events.push((self.event, event));
        let hopeful = |place: &Place| matches!(place, Place::Unschedulable { wakes, .. } if wakes.intersects(event));
        let keys: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, (_, p))| hopeful(p))
            .map(|(k, _)| k.clone())
            .collect();
        for key in keys {
            let Some((waiting, place)) = self.take_with_place(&key) else {
                continue;
            };
            match place {
                Place::Unschedulable { backoff_until, .. } if backoff_until > now => {
                    self.insert(waiting, Place::Backoff(backoff_until));
                }
                _ => self.make_ready(waiting),
            }
        }
    }

    fn release_due(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            match self.take(&key) {
                Some(waiting) => self.make_ready(waiting),
                None => {
                    self.timers.pop_first();
                }
            }
        }
    }

    fn make_ready(&mut self, waiting: Waiting) {
        self.sequence += 1;
        let order = (Reverse(waiting.pod.priority), waiting.since, self.sequence);
        self.insert(waiting, Place::Ready(order));
    }

    fn insert(&mut self, waiting: Waiting, place: Place) {
        let key = waiting.pod.key.clone();
        match &place {
            Place::Ready(order) => {
                self.ready.insert((*order, key.clone()));
            }
            Place::Backoff(at) | Place::Unschedulable { retry_at: at, .. } => {
                self.timers.insert((*at, key.clone()));
            }
            Place::Gated => {}
        }
        self.waiting.insert(key, (waiting, place));
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Waiting> {
        self.take_with_place(key).map(|(waiting, _)| waiting)
    }

    fn take_with_place(&mut self, key: &ObjectKey) -> Option<(Waiting, Place)> {
        let (waiting, place) = self.waiting.remove(key)?;
        match &place {
            Place::Ready(order) => {
                self.ready.remove(&(*order, key.clone()));
            }
            Place::Backoff(at) | Place::Unschedulable { retry_at: at, .. } => {
                self.timers.remove(&(*at, key.clone()));
            }
            Place::Gated => {}
        }
        Some((waiting, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [], "priority": priority},
        }))
        .unwrap();
        Arc::new(PodInfo::new(Arc::new(pod)))
    }

    fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|w| w.pod.key.name.clone())
    }

    #[test]
    fn important_pods_come_first_then_older_ones() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("first", 0), now);
        queue.add(pod("second", 0), now);
        queue.add(pod("important", 10), now);
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
        assert_eq!(order, ["important", "first", "second"]);
    }

    #[test]
    fn an_unschedulable_pod_waits_for_what_may_help_and_for_its_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        let waiting = queue.pop(now).unwrap();
        queue.unschedulable(waiting, Wakes::NODE, now);
        queue.wake(Wakes::POD_GONE, now);
        assert_eq!(
            popped(&mut queue, now + Duration::from_secs(20)),
            None,
            "that does not help"
        );
        queue.wake(Wakes::NODE, now);
        assert_eq!(popped(&mut queue, now), None, "still backing off");
        assert_eq!(popped(&mut queue, now + INITIAL_BACKOFF), Some("a".into()));
    }

    #[test]
    fn what_happens_during_a_try_is_not_missed() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        let waiting = queue.pop(now).unwrap();
        queue.wake(Wakes::NODE, now);
        queue.unschedulable(waiting, Wakes::NODE, now);
        assert_eq!(popped(&mut queue, now + INITIAL_BACKOFF), Some("a".into()));
    }
}
