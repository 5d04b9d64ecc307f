//! The fence: a write that requires its author's leadership is in history only while that leadership lasted.

use std::collections::HashMap;

use super::Findings;
use super::state::States;
use crate::history::{By, Call, History, Key, Space};

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let states = States::of(&history.events);
    // By what was written: whose leadership it required.
    let mut required: HashMap<(Key, &str), (Key, i64)> = HashMap::new();
    for operation in &history.operations {
        let Call::Transaction(transaction) = &operation.call else {
            continue;
        };
        for condition in &transaction.conditions {
            let By::Created(revision) = condition.by else {
                continue;
            };
            for (key, value) in &transaction.writes {
                if let (Space::Fenced, Some(value)) = (key.space, value) {
                    required.insert((*key, value), (condition.key, revision));
                }
            }
        }
    }
    for event in &history.events {
        let (Space::Fenced, Some(put)) = (event.key.space, &event.put) else {
            continue;
        };
        findings.looked_at += 1;
        let Some((leader, created)) = required.get(&(event.key, &*put.value)) else {
            continue;
        };
        let found = states.at(*leader, event.revision);
        if found.map(|found| found.create_revision) != Some(*created) {
            findings.add(|| {
                format!("whoever led from revision {created} wrote at {}, when {found:?} led: {event:?}", event.revision)
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Story, expect};
    use super::check;
    use crate::history::{Key, Space};

    #[test]
    fn who_led_once_does_not_write_later() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let leader = Key::new(Space::Leader, u32::from(b'l'), 0);
        let start = || {
            let mut story = Story::of(Space::Leader).event("l", "first", 2);
            story.space = Some(Space::Fenced);
            story
                .fenced("f", "1", (leader, 2), true, 3)
                .event("f", "1", 3)
        };
        let deposed = || {
            let mut story = start();
            story.space = Some(Space::Leader);
            let mut story = story.gone("l", 4).event("l", "second", 5);
            story.space = Some(Space::Fenced);
            story
        };
        check(&start(), "");
        let bad = "wrote at 6";
        check(
            &deposed()
                .fenced("f", "2", (leader, 5), true, 6)
                .event("f", "2", 6),
            "",
        );
        check(
            &deposed()
                .fenced("f", "2", (leader, 2), true, 6)
                .event("f", "2", 6),
            bad,
        );
        check(
            &deposed()
                .fenced("f", "2", (leader, 2), true, 6)
                .unknown()
                .event("f", "2", 6),
            bad,
        );
        check(&deposed().fenced("f", "2", (leader, 2), false, 5), "");
    }
}
