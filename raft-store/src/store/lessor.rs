//! The lessor: when leases end. Runs on the leader only; the end itself is a replicated revoke.
//!
//! One timer for the next deadline. Apply knows no time: it only says which leases exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::proposals::Proposals;
use crate::command::Command;
use crate::metrics::Metrics;
use crate::mvcc::apply::LeaseEffect;
use crate::{Error, Leadership, limits};

/// Deadlines of the leases. Pure: told the time by its caller.
#[derive(Debug, Default)]
struct Deadlines {
    leases: BTreeMap<i64, Lease>,
    order: BTreeSet<(Instant, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
    /// Its revoke is on the way: it can no longer be renewed.
    ending: bool,
}

impl Deadlines {
    fn grant(&mut self, id: i64, ttl: Duration, now: Instant) {
        self.revoke(id);
        let deadline = later(now, ttl);
        self.leases.insert(
            id,
            Lease {
                ttl,
                deadline,
                ending: false,
            },
        );
        self.order.insert((deadline, id));
    }

    fn revoke(&mut self, id: i64) {
        if let Some(lease) = self.leases.remove(&id) {
            self.order.remove(&(lease.deadline, id));
        }
    }

    /// Gives a lease its full time again, unless it is gone or ending.
    fn renew(&mut self, id: i64, now: Instant) -> Option<Duration> {
        let lease = self.leases.get_mut(&id)?;
        if lease.ending || lease.deadline <= now {
            return None;
        }
        self.order.remove(&(lease.deadline, id));
        lease.deadline = later(now, lease.ttl);
        self.order.insert((lease.deadline, id));
        Some(lease.ttl)
    }

    /// As a new leader does: nobody knows how long each lease has left.
    fn renew_all(&mut self, now: Instant) {
        self.order.clear();
        for (id, lease) in &mut self.leases {
            lease.deadline = later(now, lease.ttl);
            lease.ending = false;
            self.order.insert((lease.deadline, *id));
        }
    }

    /// Takes leases whose time is over, and marks them.
    fn take_expired(&mut self, now: Instant, max: usize) -> Vec<i64> {
        let mut expired = Vec::new();
        while expired.len() < max
            && let Some(&(deadline, id)) = self.order.first()
            && deadline <= now
        {
            self.order.pop_first();
            self.leases
                .get_mut(&id)
                .expect("ordered leases exist")
                .ending = true;
            expired.push(id);
        }
        expired
    }

    /// Tries a revoke that failed again, a little later.
    fn retry(&mut self, id: i64, now: Instant) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.deadline = now + Duration::from_millis(500);
            self.order.insert((lease.deadline, id));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.order.first().map(|(deadline, _)| *deadline)
    }
}

fn later(now: Instant, ttl: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    now + ttl.min(CENTURY)
}

/// Remaining and granted time of a lease, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    pub ttl: i64,
    pub granted_ttl: i64,
}

pub struct Lessor {
    deadlines: Mutex<Deadlines>,
    /// The next deadline may have come closer.
    changed: Notify,
    metrics: Metrics,
}

impl Lessor {
    pub fn new(leases: &BTreeMap<i64, i64>, metrics: Metrics) -> Self {
        let mut deadlines = Deadlines::default();
        let now = Instant::now();
        for (id, ttl) in leases {
            deadlines.grant(*id, seconds(*ttl), now);
        }
        metrics.leases.set(leases.len() as i64);
        Self {
            deadlines: Mutex::new(deadlines),
            changed: Notify::new(),
            metrics,
        }
    }

    /// Renews a lease; its time to live in seconds, or `None` if there is none that can be.
    pub fn renew(&self, id: i64) -> Option<i64> {
        let renewed = self.deadlines.lock().renew(id, Instant::now())?;
        self.metrics.leases_renewed.inc();
        Some(renewed.as_secs() as i64)
    }

    pub fn remaining(&self, id: i64) -> Option<Remaining> {
        let deadlines = self.deadlines.lock();
        let lease = deadlines.leases.get(&id)?;
        let left = lease.deadline.saturating_duration_since(Instant::now());
        Some(Remaining {
            ttl: left.as_secs() as i64,
            granted_ttl: lease.ttl.as_secs() as i64,
        })
    }

    /// All leases, in order.
    pub fn ids(&self) -> Vec<i64> {
        self.deadlines.lock().leases.keys().copied().collect()
    }

    /// The state was replaced: these are its leases and their granted times, in seconds.
    pub fn reset(&self, leases: &BTreeMap<i64, i64>) {
        let mut fresh = Deadlines::default();
        let now = Instant::now();
        for (id, ttl) in leases {
            fresh.grant(*id, seconds(*ttl), now);
        }
        *self.deadlines.lock() = fresh;
        self.metrics.leases.set(leases.len() as i64);
        self.changed.notify_one();
    }

    /// Learns which leases came and went; called by apply, before anyone is answered.
    pub fn take_in(&self, effects: Vec<LeaseEffect>) {
        if effects.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut deadlines = self.deadlines.lock();
        for effect in effects {
            match effect {
                LeaseEffect::Granted { id, ttl } => {
                    self.metrics.leases_granted.inc();
                    deadlines.grant(id, seconds(ttl), now);
                }
                LeaseEffect::Revoked { id } => {
                    self.metrics.leases_revoked.inc();
                    deadlines.revoke(id);
                }
            }
        }
        self.metrics.leases.set(deadlines.leases.len() as i64);
        drop(deadlines);
        self.changed.notify_one();
    }

    /// Follows leadership; while leading, proposes the end of leases whose time is over.
    pub async fn run(
        &self,
        mut leadership: watch::Receiver<Leadership>,
        proposals: Arc<Proposals>,
    ) {
        let mut revoking = FuturesUnordered::new();
        let mut leads = false;
        loop {
            let now_leads = leadership.borrow_and_update().is_leader;
            if now_leads && !leads {
                self.deadlines.lock().renew_all(Instant::now());
            }
            leads = now_leads;
            let wake = if leads && revoking.len() < limits::MAX_EXPIRED_PER_PROPOSAL {
                self.deadlines.lock().next()
            } else {
                None
            };
            tokio::select! {
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.changed.notified() => {}
                Some((id, result)) = revoking.next() => self.revoked(id, result),
                () = until(wake), if wake.is_some() => {
                    let room = limits::MAX_EXPIRED_PER_PROPOSAL - revoking.len();
                    let expired = self.deadlines.lock().take_expired(Instant::now(), room);
                    let term = leadership.borrow().term;
                    for id in expired {
                        let proposals = proposals.clone();
                        // The next leader gives every lease its full time again.
                        revoking.push(async move {
                            let command = Command::LeaseRevoke { id };
                            (id, proposals.propose_in(command, Some(term)).await.map(drop))
                        });
                    }
                }
            }
        }
    }

    fn revoked(&self, id: i64, result: Result<(), Error>) {
        match result {
            Ok(()) => {
                self.metrics.leases_expired.inc();
            }
            Err(Error::LeaseNotFound) => {}
            Err(error) => {
                tracing::debug!(id, %error, "a lease's end could not be proposed; trying again");
                self.deadlines.lock().retry(id, Instant::now());
            }
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.max(0) as u64)
}

async fn until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_end_in_order_and_only_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::default();
        deadlines.grant(1, Duration::from_secs(10), start);
        deadlines.grant(2, Duration::from_secs(5), start);
        deadlines.grant(3, Duration::from_secs(5), start);
        deadlines.revoke(3);
        assert_eq!(deadlines.next(), Some(at(5)));
        assert_eq!(deadlines.renew(1, at(4)), Some(Duration::from_secs(10)));
        assert_eq!(deadlines.take_expired(at(12), 9), [2]);
        assert_eq!(deadlines.renew(2, at(12)), None, "its end is under way");
        assert!(deadlines.take_expired(at(13), 9).is_empty());
        deadlines.retry(2, at(13));
        assert_eq!(deadlines.take_expired(at(14), 1), [2]);
        assert_eq!(
            deadlines.renew(1, at(14)),
            None,
            "its time is over even before it was taken"
        );
        deadlines.renew_all(at(20));
        assert_eq!(deadlines.next(), Some(at(25)));
    }
}
