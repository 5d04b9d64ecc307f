//! Writes that were acknowledged against what watchers saw, where the store's own history is not to be had.

use std::collections::{HashMap, HashSet};

use super::Findings;
use crate::history::{Call, History};

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let events: HashMap<i64, _> = history
        .events
        .iter()
        .map(|event| (event.revision, event))
        .collect();
    let mut asked = HashSet::new();
    for operation in &history.operations {
        let Call::Transaction(transaction) = &operation.call else {
            continue;
        };
        asked.extend(
            transaction
                .writes
                .iter()
                .filter_map(|(key, value)| Some((*key, value.clone()?))),
        );
        let Some((_, revision, ..)) = operation.answered().filter(|_| operation.wrote()) else {
            continue;
        };
        findings.looked_at += 1;
        let found = events.get(&revision);
        let kept = transaction.writes.iter().all(|(key, value)| {
            let put = found
                .filter(|event| event.key == *key)
                .and_then(|event| event.put.as_ref());
            put.map(|put| &put.value) == value.as_ref()
        });
        if !kept {
            findings.add(|| {
                format!("an acknowledged write is lost: watchers saw {found:?}: {operation:?}")
            });
        }
    }
    let mut seen = HashSet::new();
    for event in &history.events {
        let Some(put) = &event.put else { continue };
        let value = (event.key, put.value.clone());
        if !asked.contains(&value) {
            findings.add(|| format!("nobody asked for {event:?}"));
        } else if !seen.insert(value) {
            findings.add(|| format!("a write happened twice: {event:?}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Story, expect};
    use super::check;

    #[test]
    fn watchers_see_what_was_acknowledged() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        check(&Story::new().put("a", "1", 5).event("a", "1", 5), "");
        check(&Story::new().lost_put("a", "1"), "");
        check(&Story::new().put("a", "1", 5), "is lost");
        check(&Story::new().put("a", "1", 5).event("a", "1", 6), "is lost");
        check(&Story::new().event("a", "1", 6), "nobody asked for");
        check(
            &Story::new()
                .put("a", "1", 5)
                .event("a", "1", 5)
                .event("a", "1", 7),
            "twice",
        );
    }
}
