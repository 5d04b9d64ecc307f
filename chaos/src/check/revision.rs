//! Revisions and time: an answer that may not be old is at least as new as every answer that came before its call began.

use super::Findings;
use crate::history::{History, Nanos};

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    // When each revision was first answered with, by time; revisions grow along it.
    let mut answers: Vec<(Nanos, i64)> = Vec::new();
    let mut calls: Vec<(Nanos, usize, i64)> = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        if let Some((transaction, revision, ..)) = operation.answered()
            && revision != 0
        {
            answers.push((operation.done, revision));
            if !transaction.serializable {
                calls.push((operation.invoke, number, revision));
            }
        }
    }
    answers.sort_unstable();
    calls.sort_unstable();
    findings.looked_at = calls.len();
    let mut newest = 0;
    let mut answers = answers.into_iter().peekable();
    for (invoke, number, revision) in calls {
        while let Some((_, answered)) = answers.next_if(|(done, _)| *done < invoke) {
            newest = newest.max(answered);
        }
        if revision < newest {
            let operation = &history.operations[number];
            findings.add(|| {
                format!("revision {newest} had been answered before, now {revision}: {operation:?}")
            });
        } else if revision == newest && history.operations[number].wrote() {
            let operation = &history.operations[number];
            findings.add(|| {
                format!("a write got revision {revision}, known before it began: {operation:?}")
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Story, expect};
    use super::check;

    #[test]
    fn revisions_do_not_go_backwards() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        check(
            &Story::new()
                .put("a", "1", 2)
                .read("a", Some("1"), 2)
                .put("a", "2", 3),
            "",
        );
        check(
            &Story::new().put("a", "1", 2).read("a", None, 1),
            "answered before, now 1",
        );
        check(
            &Story::new().put("a", "1", 2).put("b", "1", 2),
            "known before it began",
        );
        // At the same time, any order is right; an old read was asked for.
        check(
            &Story::new()
                .put("a", "1", 2)
                .at(10, 30)
                .read("a", None, 1)
                .at(20, 40),
            "",
        );
        check(&Story::new().put("a", "1", 2).old_read("a", None, 1), "");
    }
}
