//! Answers against the store's own history: every acknowledged write is in it, at its revision, and once; nothing is in
//! it that nobody asked for; every read shows the state at the revision that it names.

use std::collections::{HashMap, HashSet};

use super::Findings;
use super::state::States;
use crate::history::{Call, Event, History, Key, Operation};

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    shape(&history.events, &mut findings);
    let states = States::of(&history.events);
    let mut acknowledged: HashMap<i64, HashSet<Key>> = HashMap::new();
    for operation in &history.operations {
        findings.looked_at += 1;
        let Some((transaction, revision, succeeded, seen)) = operation.answered() else {
            continue;
        };
        if operation.wrote() {
            written(operation, revision, &states, &mut findings);
            let keys = acknowledged.entry(revision).or_default();
            let twice = transaction.writes.iter().any(|(key, _)| !keys.insert(*key));
            if twice {
                findings
                    .add(|| format!("two writes were given revision {revision}: {operation:?}"));
            }
        } else if !succeeded || transaction.writes.is_empty() {
            for (key, seen) in transaction.reads.iter().zip(seen) {
                let expect = states.at(*key, revision);
                if expect != seen.as_ref() {
                    findings.add(|| {
                        format!("{key} at revision {revision} was read as {seen:?}, history has {expect:?}: {operation:?}")
                    });
                }
            }
        }
    }
    asked_for(history, &mut findings);
    findings
}

/// History by itself: revisions follow each other, versions count.
fn shape(events: &[Event], findings: &mut Findings) {
    let mut before: HashMap<Key, (i64, i64)> = HashMap::new();
    let mut last = None;
    for event in events {
        if last.is_some_and(|last| event.revision < last || event.revision > last + 1) {
            findings.add(|| format!("history jumps from {last:?} to {event:?}"));
        }
        last = Some(event.revision);
        let (version, created) = before.get(&event.key).copied().unwrap_or((0, 0));
        let wrong = match &event.put {
            Some(put) => {
                let created = if version == 0 {
                    event.revision
                } else {
                    created
                };
                put.mod_revision != event.revision
                    || put.version != version + 1
                    || put.create_revision != created
            }
            None => version == 0,
        };
        if wrong {
            findings.add(|| {
                format!("{event:?} does not follow version {version}, created at {created}")
            });
        }
        let now = event.put.as_ref();
        before.insert(
            event.key,
            now.map_or((0, 0), |put| (put.version, put.create_revision)),
        );
    }
}

fn written(operation: &Operation, revision: i64, states: &States, findings: &mut Findings) {
    let Call::Transaction(transaction) = &operation.call else {
        return;
    };
    for (key, value) in &transaction.writes {
        let found = states.change(*key, revision);
        let as_asked = found.is_some_and(|found| match (found, value) {
            (Some(put), Some(value)) => put.value == *value && put.lease == transaction.lease,
            (None, None) => true,
            _ => false,
        });
        if !as_asked {
            findings.add(|| {
                format!("an acknowledged write is lost: {key} at revision {revision} is {found:?} in history: {operation:?}")
            });
        }
    }
}

/// Values are unique, so that each put in history has the one call that asked for it.
fn asked_for(history: &History, findings: &mut Findings) {
    let mut calls: HashMap<(Key, &str), &Operation> = HashMap::new();
    for operation in &history.operations {
        if let Call::Transaction(transaction) = &operation.call {
            for (key, value) in &transaction.writes {
                if let Some(value) = value {
                    calls.insert((*key, value), operation);
                }
            }
        }
    }
    let mut taken = HashSet::new();
    for event in &history.events {
        let Some(put) = &event.put else { continue };
        match calls.get(&(event.key, &*put.value)) {
            None => findings.add(|| format!("nobody asked for {event:?}")),
            Some(operation) if refused(operation) => {
                findings.add(|| {
                    format!(
                        "a write that was said to be refused is there: {event:?}: {operation:?}"
                    )
                });
            }
            Some(operation) if !taken.insert((event.key, &*put.value)) => {
                findings.add(|| format!("a write happened twice: {event:?}: {operation:?}"));
            }
            Some(_) => {}
        }
    }
}

fn refused(operation: &Operation) -> bool {
    operation
        .answered()
        .is_some_and(|(_, _, succeeded, _)| !succeeded)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Story, expect};
    use super::check;

    #[test]
    fn what_was_acknowledged_must_be_in_history() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let good = Story::new()
            .put("a", "1", 2)
            .event("a", "1", 2)
            .read("a", Some("1"), 2);
        check(&good, "");
        check(
            &Story::new().put("a", "1", 2),
            "an acknowledged write is lost",
        );
        check(
            &Story::new().put("a", "1", 3).event("a", "1", 2),
            "an acknowledged write is lost",
        );
        check(&Story::new().event("a", "1", 2), "nobody asked for");
        check(
            &Story::new()
                .put("a", "1", 2)
                .event("a", "1", 2)
                .event("a", "1", 3),
            "happened twice",
        );
        check(
            &Story::new()
                .put("a", "1", 2)
                .event("a", "1", 2)
                .put("b", "1", 4)
                .event("b", "1", 4),
            "history jumps",
        );
        check(
            &Story::new()
                .cas("a", None, "1", false, 2)
                .event("a", "1", 2),
            "said to be refused",
        );
        check(
            &Story::new()
                .put("a", "1", 2)
                .event("a", "1", 2)
                .read("a", None, 2),
            "was read as",
        );
        check(&Story::new().lost_put("a", "1").event("a", "1", 2), "");
        check(&Story::new().lost_put("a", "1"), "");
    }
}
