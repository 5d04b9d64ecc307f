//! Linearizability of registers, pairs and lists: each object is searched by itself.
//!
//! Values are unique, so a call without an answer whose value nobody ever saw can be left out: whatever it did, nothing
//! tells it from never having happened. One whose value was seen has happened, before whoever saw it was answered.

use std::collections::{BTreeMap, HashMap};

use super::Findings;
use super::search::{Answer, Step, search};
use crate::history::{Call, History, Key, Nanos, Operation, Space, Transaction, Value};

/// States that the search of one object may keep in memory, about 50 bytes each.
const MAX_STATES: usize = 2_000_000;

type Object = (Space, u32);

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let mut objects: BTreeMap<Object, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        let Call::Transaction(transaction) = &operation.call else {
            continue;
        };
        let wanted = |key: &Key| matches!(key.space, Space::Register | Space::Pair | Space::List);
        if let Some(key) = first_key(transaction).filter(wanted)
            && !transaction.serializable
        {
            let object = objects.entry((key.space, key.number)).or_default();
            object.push(operation);
        }
    }
    for (object, operations) in objects {
        findings.looked_at += operations.len();
        let (steps, sources) = steps(&operations);
        match search(&steps, MAX_STATES) {
            Answer::Linearizable => {}
            Answer::Undecided => findings.undecided += 1,
            Answer::Violation(step) => findings.add(|| {
                let at = sources.get(step).map(|source| operations[*source]);
                format!("no order of the calls at {object:?} explains their answers, at the latest at {at:?}")
            }),
        }
    }
    findings
}

fn first_key(transaction: &Transaction) -> Option<Key> {
    let written = transaction.writes.first().map(|(key, _)| *key);
    written.or_else(|| transaction.reads.first().copied())
}

/// The object's values by number; 0 is that of no value.
#[derive(Default)]
struct Values(HashMap<Value, u32>);

impl Values {
    fn number(&mut self, value: Option<&Value>) -> u32 {
        let Some(value) = value else { return 0 };
        let next = u32::try_from(self.0.len() + 1).expect("an object has few values");
        *self.0.entry(value.clone()).or_insert(next)
    }
}

/// The steps, and of which operation each is.
fn steps(operations: &[&Operation]) -> (Vec<Step>, Vec<usize>) {
    let mut values = Values::default();
    let mut all: Vec<Step> = operations
        .iter()
        .filter_map(|operation| step(operation, &mut values))
        .collect();
    let mut seen: HashMap<u32, Nanos> = HashMap::new();
    for step in &all {
        let Some(done) = step.done else { continue };
        let held = if step.succeeded {
            step.conditions.as_slice()
        } else {
            &[]
        };
        for (_, value) in step.reads.iter().chain(held) {
            let first = seen.entry(*value).or_insert(done);
            *first = done.min(*first);
        }
    }
    let mut sources = Vec::new();
    let mut kept = Vec::new();
    for (source, mut step) in all.drain(..).enumerate() {
        if step.done.is_none() {
            // A deletion leaves nothing by which it could be told.
            let values = || {
                step.writes
                    .iter()
                    .map(|(_, value)| value)
                    .filter(|value| **value != 0)
            };
            let first = values().filter_map(|value| seen.get(value)).min().copied();
            match first {
                // Before its call began? Then the search shall say so.
                Some(first) => {
                    step.done = Some(first.max(step.invoke));
                    step.succeeded = true;
                    step.reads.clear();
                }
                None if values().next().is_some() => continue,
                None => {}
            }
        }
        sources.push(source);
        kept.push(step);
    }
    (kept, sources)
}

fn step(operation: &Operation, values: &mut Values) -> Option<Step> {
    let Call::Transaction(transaction) = &operation.call else {
        return None;
    };
    let answer = operation.answered();
    let succeeded = answer.is_some_and(|(_, _, succeeded, _)| succeeded);
    let mut reads = Vec::new();
    if let Some((.., seen)) = answer {
        for (key, seen) in transaction.reads.iter().zip(seen) {
            let value = seen.as_ref().map(|seen| &seen.value);
            reads.push((usize::from(key.slot), values.number(value)));
        }
    }
    let conditions = transaction.conditions.iter().map(|condition| {
        let value = values.number(condition.value.as_ref());
        (usize::from(condition.key.slot), value)
    });
    let conditions = conditions.collect();
    let writes = transaction
        .writes
        .iter()
        .map(|(key, value)| (usize::from(key.slot), values.number(value.as_ref())));
    Some(Step {
        invoke: operation.invoke,
        done: answer.map(|_| operation.done),
        conditions,
        writes: writes.collect(),
        reads,
        succeeded,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Story, expect};
    use super::check;

    const BAD: &str = "no order of the calls";

    #[test]
    fn answers_must_have_an_order() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let start = || Story::new().put("a", "1", 2);
        check(&start().read("a", Some("1"), 2), "");
        check(&start().read("a", None, 1), BAD);
        check(&start().put("a", "2", 3).read("a", Some("1"), 3), BAD);
        check(
            &start()
                .put("a", "2", 3)
                .at(100, 200)
                .read("a", Some("1"), 3)
                .at(150, 160),
            "",
        );
        check(
            &start()
                .put("a", "2", 3)
                .at(100, 200)
                .read("a", Some("1"), 3)
                .at(250, 260),
            BAD,
        );
        // Two reads may not go back.
        let both = |first: &str, second: &str| {
            let story = start().put("a", "2", 3).at(100, 200);
            let story = story.read("a", Some(first), 3).at(110, 120);
            story.read("a", Some(second), 3).at(130, 140)
        };
        check(&both("1", "2"), "");
        check(&both("2", "1"), BAD);
    }

    #[test]
    fn what_was_not_answered_may_have_happened() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let start = || Story::new().put("a", "1", 2).lost_put("a", "2");
        check(&start().read("a", Some("1"), 2), "");
        check(&start().read("a", Some("1"), 2).read("a", Some("2"), 3), "");
        check(
            &start().read("a", Some("2"), 2).read("a", Some("1"), 3),
            BAD,
        );
        check(
            &Story::new().read("a", Some("2"), 2).lost_put("a", "2"),
            BAD,
        );
    }

    #[test]
    fn a_deletion_without_an_answer_may_have_happened() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let start = || {
            let story = Story::new().read("a", None, 1).put("a", "1", 2);
            story.delete("a", "1", 3).unknown()
        };
        check(&start().read("a", Some("1"), 2), "");
        check(&start().read("a", None, 3), "");
        check(&start().read("a", None, 3).read("a", Some("1"), 3), BAD);
        check(&start().read("a", Some("1"), 2).read("a", None, 3), "");
    }

    #[test]
    fn conditions_are_part_of_the_order() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let start = || Story::new().put("a", "1", 2);
        check(
            &start()
                .cas("a", Some("1"), "2", true, 3)
                .read("a", Some("2"), 3),
            "",
        );
        check(&start().cas("a", Some("0"), "2", true, 3), BAD);
        check(&start().cas("a", Some("1"), "2", false, 2), BAD);
        let twice = start().cas("a", Some("1"), "2", true, 3).at(100, 200);
        check(&twice.cas("a", Some("1"), "3", true, 4).at(100, 200), BAD);
    }

    #[test]
    fn pairs_are_written_together() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let start = || {
            let story = Story::of(crate::history::Space::Pair);
            story
                .put_all(&[("a", "1"), ("A", "x")], 2)
                .put_all(&[("a", "2"), ("A", "y")], 3)
        };
        check(
            &start().read_all(&[("a", Some("2")), ("A", Some("y"))], 3),
            "",
        );
        check(
            &start()
                .at(1, 99)
                .read_all(&[("a", Some("1")), ("A", Some("y"))], 3)
                .at(50, 60),
            BAD,
        );
    }

    /// Many calls at once, of which most orders are wrong: the memory of failures is needed.
    #[test]
    fn wide_histories_are_decided() {
        let mut story = Story::new();
        for number in 0..14 {
            story = story.put("a", &number.to_string(), 2).at(10, 1000);
        }
        let good = story.read("a", Some("3"), 3).at(2000, 2010);
        expect(&check(&good.history), "");
        let bad = good.read("a", Some("4"), 3).at(2020, 2030);
        expect(&check(&bad.history), BAD);
    }
}
