//! Leases: a key stays as long as its lease was promised, goes when nobody asks for more, and all keys of a lease go
//! together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Findings;
use crate::history::{Call, History, Key, Nanos, Operation, Outcome};

/// How much longer than promised a lease may last at the end of a run, when the cluster is whole: a new leader gives
/// each lease its whole time again.
const GRACE: Nanos = 20_000_000_000;
const SECOND: Nanos = 1_000_000_000;

#[derive(Default)]
struct Lease {
    /// Promises: when they were asked for and answered, and how long they are.
    promises: Vec<(Nanos, Nanos, Nanos)>,
    /// When its end was first asked for.
    revoked: Option<Nanos>,
    /// When something that may have renewed it ended last.
    touched: Nanos,
    longest: Nanos,
}

impl Lease {
    /// Before when it must not end, by promises that were answered before `time`.
    fn due(&self, time: Nanos) -> Nanos {
        let made = self
            .promises
            .iter()
            .filter(|(_, answered, _)| *answered < time);
        made.map(|(asked, _, lasts)| asked + lasts)
            .max()
            .unwrap_or(0)
    }

    fn may_end(&self, time: Nanos) -> bool {
        self.revoked.is_some_and(|revoked| revoked < time) || self.due(time) <= time
    }
}

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let leases = leases(history);
    findings.looked_at = leases.len();
    for operation in &history.operations {
        if let (Call::KeepAlive { lease }, Outcome::Lease { ttl_seconds: 0, .. }) =
            (&operation.call, &operation.outcome)
            && let Some(known) = leases.get(lease)
            && !known.may_end(operation.done)
        {
            findings.add(|| format!("lease {lease:x} had ended before it was due: {operation:?}"));
        }
    }
    let ends = together(history, &mut findings);
    for gone in &history.gone {
        if let Some(lease) = ends.get(&(gone.key, gone.revision))
            && let Some(known) = leases.get(lease)
            && !known.may_end(gone.at)
        {
            let early = (known.due(gone.at) - gone.at) / 1_000_000;
            findings.add(|| {
                format!(
                    "{} was gone {early} ms before lease {lease:x} was due",
                    gone.key
                )
            });
        }
    }
    stays(history, &leases, &mut findings);
    findings
}

fn leases(history: &History) -> BTreeMap<i64, Lease> {
    let mut leases: BTreeMap<i64, Lease> = BTreeMap::new();
    for operation in &history.operations {
        let Operation {
            invoke,
            done,
            call,
            outcome,
            ..
        } = operation;
        let answered = match outcome {
            Outcome::Lease { lease, ttl_seconds } => Some((*lease, *ttl_seconds)),
            _ => None,
        };
        let lease = match call {
            Call::Grant { .. } => answered.map(|(lease, _)| lease),
            Call::KeepAlive { lease } | Call::Revoke { lease } => Some(*lease),
            Call::Transaction(_) => None,
        };
        let Some(lease) = lease else { continue };
        let lease = leases.entry(lease).or_default();
        if let Call::Revoke { .. } = call {
            lease.revoked = Some(lease.revoked.map_or(*invoke, |before| before.min(*invoke)));
            continue;
        }
        lease.touched = lease.touched.max(*done);
        if let Some((_, seconds)) = answered.filter(|(_, seconds)| *seconds > 0) {
            let lasts = u64::try_from(seconds).expect("above 0") * SECOND;
            lease.promises.push((*invoke, *done, lasts));
            lease.longest = lease.longest.max(lasts);
        }
    }
    leases
}

/// Which lease's end took a key away at a revision; each end takes all.
fn together(history: &History, findings: &mut Findings) -> HashMap<(Key, i64), i64> {
    let mut ends = HashMap::new();
    let mut keys: BTreeMap<i64, BTreeSet<Key>> = BTreeMap::new();
    let mut bound: HashMap<Key, i64> = HashMap::new();
    let mut ending: BTreeSet<i64> = BTreeSet::new();
    let mut at = 0;
    let mut settle = |ending: &mut BTreeSet<i64>, keys: &BTreeMap<i64, BTreeSet<Key>>, at: i64| {
        for lease in std::mem::take(ending) {
            let left = keys.get(&lease).filter(|left| !left.is_empty());
            if let Some(left) = left {
                findings.add(|| {
                    format!("lease {lease:x} ended at revision {at} without taking {left:?}")
                });
            }
        }
    };
    for event in &history.events {
        if event.revision != at {
            settle(&mut ending, &keys, at);
            at = event.revision;
        }
        if let Some(lease) = bound.remove(&event.key) {
            keys.entry(lease).or_default().remove(&event.key);
            if event.put.is_none() {
                ends.insert((event.key, event.revision), lease);
                ending.insert(lease);
            }
        }
        if let Some(put) = event.put.as_ref().filter(|put| put.lease != 0) {
            bound.insert(event.key, put.lease);
            keys.entry(put.lease).or_default().insert(event.key);
        }
    }
    settle(&mut ending, &keys, at);
    ends
}

/// Keys whose lease ended long before the run did.
fn stays(history: &History, leases: &BTreeMap<i64, Lease>, findings: &mut Findings) {
    let mut last: BTreeMap<Key, Option<i64>> = BTreeMap::new();
    for event in &history.events {
        last.insert(event.key, event.put.as_ref().map(|put| put.lease));
    }
    for (key, lease) in last {
        let Some(lease) = lease.filter(|lease| *lease != 0) else {
            continue;
        };
        let Some(known) = leases.get(&lease) else {
            continue;
        };
        if known.touched + known.longest + GRACE < history.ended {
            findings.add(|| format!("{key} outlives lease {lease:x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Story, expect};
    use super::{GRACE, SECOND, check};
    use crate::history::{Call, Gone, Nanos, Outcome, Space};

    fn granted() -> Story {
        let story = Story::of(Space::Lease);
        story.lease(Call::Grant { ttl_seconds: 5 }, 5, SECOND)
    }

    fn bound() -> Story {
        granted().leased("a", 7, 2).leased("b", 7, 3)
    }

    fn renewed(story: Story, ttl_seconds: i64, at: Nanos) -> Story {
        story.lease(Call::KeepAlive { lease: 7 }, ttl_seconds, at)
    }

    fn seen(mut story: Story, key: &str, revision: i64, at: Nanos) -> Story {
        let key = story.key(key);
        story.history.gone.push(Gone { key, revision, at });
        story
    }

    #[test]
    fn keys_live_as_long_as_their_lease() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let ended = || bound().gone("a", 4).gone("b", 4);
        check(&seen(ended(), "a", 4, 6 * SECOND), "");
        check(&seen(ended(), "a", 4, 5 * SECOND), "before lease 7 was due");
        check(
            &seen(renewed(ended(), 5, 3 * SECOND), "a", 4, 7 * SECOND),
            "before lease 7 was due",
        );
        check(
            &seen(renewed(ended(), 5, 3 * SECOND), "a", 4, 8 * SECOND),
            "",
        );
        let revoked = ended().lease(Call::Revoke { lease: 7 }, 0, 2 * SECOND);
        check(&seen(revoked, "a", 4, 3 * SECOND), "");
        check(&renewed(bound(), 0, 3 * SECOND), "had ended before");
        check(&bound().gone("a", 4).gone("b", 5), "without taking");
        let mut late = bound();
        late.history.ended = 6 * SECOND + GRACE + 10;
        check(&late, "outlives");
        late.history.ended = 6 * SECOND;
        check(&late, "");
    }

    impl Story {
        fn lease(self, call: Call, ttl_seconds: i64, at: Nanos) -> Self {
            let mut story = self.put("z", "any", 0).at(at, at + 1);
            let last = story.history.operations.last_mut().expect("just made");
            (last.call, last.outcome) = (
                call,
                Outcome::Lease {
                    lease: 7,
                    ttl_seconds,
                },
            );
            story
        }

        fn leased(self, key: &str, lease: i64, revision: i64) -> Self {
            let mut story = self.event(key, "any", revision);
            let last = story.history.events.last_mut().expect("just made");
            last.put.as_mut().expect("a put").lease = lease;
            story
        }
    }
}
