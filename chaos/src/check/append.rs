//! Lists that only grow: whatever was seen of one is the beginning of its end, and nothing acknowledged is missing in it.

use std::collections::{BTreeMap, HashMap};

use super::Findings;
use crate::history::{Call, History, Key, Nanos, Operation, Space};

/// What became of one element: when it was asked for, and when that was acknowledged.
struct Append<'a> {
    operation: &'a Operation,
    acknowledged: Option<Nanos>,
}

#[derive(Default)]
struct List<'a> {
    appends: HashMap<&'a str, Append<'a>>,
    /// What was read: when the read began and ended, and whether it may be old.
    reads: Vec<(&'a Operation, &'a str)>,
    end: &'a str,
}

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let mut lists: BTreeMap<Key, List> = BTreeMap::new();
    for operation in &history.operations {
        let Call::Transaction(transaction) = &operation.call else {
            continue;
        };
        for (key, value) in &transaction.writes {
            if let (Space::List, Some(value)) = (key.space, value) {
                let list = lists.entry(*key).or_default();
                let append = Append {
                    operation,
                    acknowledged: operation.wrote().then_some(operation.done),
                };
                list.appends.insert(last(value), append);
            }
        }
        let Some((.., seen)) = operation.answered() else {
            continue;
        };
        for (key, seen) in transaction.reads.iter().zip(seen) {
            if key.space == Space::List {
                let list = lists.entry(*key).or_default();
                let value = seen.as_ref().map_or("", |seen| &seen.value);
                list.reads.push((operation, value));
            }
        }
    }
    for event in &history.events {
        if let (Some(list), Some(put)) = (lists.get_mut(&event.key), &event.put) {
            list.end = &put.value;
        }
    }
    for (key, list) in &lists {
        findings.looked_at += list.appends.len() + list.reads.len();
        check_list(*key, list, &mut findings);
    }
    findings
}

fn last(list: &str) -> &str {
    list.rsplit(',').next().unwrap_or_default()
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|element| !element.is_empty())
}

fn check_list(key: Key, list: &List, findings: &mut Findings) {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, element) in elements(list.end).enumerate() {
        if places.insert(element, place).is_some() {
            findings.add(|| format!("{key}: {element} is there twice: {}", list.end));
        }
    }
    let mut acknowledged: Vec<(Nanos, usize)> = Vec::new();
    for (element, append) in &list.appends {
        match (append.acknowledged, places.get(element)) {
            (Some(done), Some(place)) => acknowledged.push((done, *place)),
            (Some(_), None) => {
                findings.add(|| format!("{key}: {element} is lost: {:?}", append.operation));
            }
            (None, _) => {}
        }
    }
    acknowledged.sort_unstable();
    // The highest place acknowledged up to each moment: what begins after it comes behind, and reads see it.
    let mut highest = 0;
    for (_, place) in &mut acknowledged {
        highest = highest.max(*place);
        *place = highest;
    }
    let before = |time: Nanos| {
        let count = acknowledged.partition_point(|(done, _)| *done < time);
        count.checked_sub(1).map(|at| acknowledged[at].1)
    };
    for (element, append) in &list.appends {
        if let (Some(place), Some(before)) = (places.get(element), before(append.operation.invoke))
            && *place <= before
        {
            findings.add(|| {
                format!(
                    "{key}: {element} was appended before what was there: {:?}",
                    append.operation
                )
            });
        }
    }
    for (operation, value) in &list.reads {
        let starts = list.end.strip_prefix(value);
        let rest_fits = |rest: &str| value.is_empty() || rest.is_empty() || rest.starts_with(',');
        if !starts.is_some_and(rest_fits) {
            findings.add(|| {
                format!(
                    "{key}: {value:?} is no beginning of {:?}: {operation:?}",
                    list.end
                )
            });
        }
        let (_, _, succeeded, _) = operation.answered().expect("only answers are here");
        let may_be_old =
            matches!(&operation.call, Call::Transaction(t) if t.serializable) && succeeded;
        let len = elements(value).count();
        if !may_be_old && before(operation.invoke).is_some_and(|before| len <= before) {
            findings.add(|| format!("{key}: a read misses what was acknowledged: {operation:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Story, expect};
    use super::check;
    use crate::history::Space;

    #[test]
    fn lists_only_grow() {
        let check = |story: &Story, want: &str| expect(&check(&story.history), want);
        let start = || {
            let story = Story::of(Space::List).put("a", "1", 2).event("a", "1", 2);
            story.put("a", "1,2", 3).event("a", "1,2", 3)
        };
        check(&start().read("a", Some("1,2"), 3), "");
        check(
            &start().read("a", Some("1"), 3),
            "misses what was acknowledged",
        );
        check(&start().old_read("a", Some("1"), 3), "");
        check(&start().read("a", Some("2"), 3), "no beginning");
        check(&start().put("a", "1,2,3", 4), "3 is lost");
        check(&start().lost_put("a", "1,2,3"), "");
        check(&start().lost_put("a", "1,2,3").event("a", "1,2,3", 4), "");
        check(
            &start().put("a", "1,2,2", 4).event("a", "1,2,2", 4),
            "twice",
        );
        check(
            &start().put("a", "1,3", 4).event("a", "3,1,2", 4),
            "before what was there",
        );
    }
}
