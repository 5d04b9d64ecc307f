//! What clients did and saw, and whether a store that is linearizable, loses nothing and keeps its promises to
//! watchers could have answered so.
//!
//! Revisions make the search for an order needless: every write names its place, every read the state that it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use raft_store::{Event, EventKind, KeyValue, WatchBatch};

/// A key's newest value as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub value: String,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
}

pub fn held(kv: &KeyValue) -> (String, Held) {
    let held = Held {
        value: String::from_utf8_lossy(&kv.value).into_owned(),
        create: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
    };
    (String::from_utf8_lossy(&kv.key).into_owned(), held)
}

/// One event: the key, and what it holds from then on.
pub type Change = (String, Option<Held>);

fn change(event: &Event) -> Change {
    let (key, held) = held(&event.kv);
    match event.kind {
        EventKind::Put => (key, Some(held)),
        EventKind::Delete => (key, None),
    }
}

#[derive(Clone, Debug)]
pub enum Seen {
    /// Answered with the revision; the values that were put, and keys deleted.
    Wrote {
        revision: i64,
        puts: Vec<(String, String)>,
        deletes: Vec<String>,
        /// The key's modification revision that a compare asked for.
        expected: Option<(String, i64)>,
    },
    Read {
        revision: i64,
        key: String,
        found: Option<Held>,
        linearizable: bool,
    },
    /// Certainly without effect.
    Refused { values: Vec<String> },
    /// With or without effect.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Op {
    pub client: u64,
    pub begun: u64,
    pub ended: u64,
    pub seen: Seen,
}

/// A watch that goes on whatever becomes of its member.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The only key, or all.
    pub key: Option<String>,
    /// The revision to go on with; 0 before the first.
    pub next: i64,
    /// What it has been shown: stretches of revisions.
    pub shown: Vec<(i64, i64)>,
    pub events: BTreeMap<i64, Vec<Change>>,
    pub attached: bool,
}

#[derive(Default)]
pub struct History {
    pub ops: Vec<Op>,
    pub log: BTreeMap<i64, Vec<Change>>,
    pub seen_at: BTreeMap<i64, u64>,
    pub watches: Vec<Watched>,
    /// Leased key: when its lease was asked for and how long it lasts, in nanoseconds.
    pub leased: BTreeMap<String, (u64, u64)>,
    pub violations: Vec<String>,
    pub stop: bool,
    pub errors: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<History>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().expect("nobody panicked with it")
    }

    pub fn violation(&self, text: String) {
        self.lock().violations.push(text);
    }
}

impl History {
    /// A watch was handed a batch.
    pub fn take_batch(&mut self, at: usize, batch: &WatchBatch, now: u64) {
        let mut revisions: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        let mut last = 0;
        for event in &batch.events {
            let revision = event.kv.mod_revision;
            if revision < last {
                self.violations
                    .push(format!("watch {at}: {revision} came after {last}"));
            }
            last = revision;
            revisions.entry(revision).or_default().push(change(event));
        }
        if batch.revision < last {
            self.violations.push(format!(
                "watch {at}: a batch of revision {} holds {last}",
                batch.revision
            ));
        }
        let watch = &mut self.watches[at];
        let first = revisions.keys().next().copied().unwrap_or(batch.revision);
        if first < watch.next {
            self.violations.push(format!(
                "watch {at}: {first} came though {} was next",
                watch.next
            ));
        }
        for (revision, changes) in revisions {
            if watch.key.is_none() {
                let known = self.log.entry(revision).or_insert_with(|| changes.clone());
                if *known != changes {
                    self.violations.push(format!(
                        "watch {at}: revision {revision} is {changes:?}, elsewhere {known:?}"
                    ));
                }
                self.seen_at.entry(revision).or_insert(now);
            }
            watch.events.insert(revision, changes);
        }
        if batch.revision >= watch.next {
            watch.shown.push((watch.next, batch.revision));
            watch.next = batch.revision + 1;
        }
    }

    /// Checks everything; what is wrong is among the violations afterwards.
    pub fn check(&mut self) {
        let mut found = Vec::new();
        self.check_watches(&mut found);
        let states = self.replay(&mut found);
        self.check_answers(&states, &mut found);
        self.check_order(&mut found);
        self.check_effects(&mut found);
        self.check_leases(&mut found);
        self.violations.extend(found);
    }

    /// Every watch was shown all that the log has in its stretches, and nothing else.
    fn check_watches(&self, found: &mut Vec<String>) {
        for (at, watch) in self.watches.iter().enumerate() {
            for (from, to) in &watch.shown {
                for (revision, changes) in self.log.range(from..=to) {
                    let wanted: Vec<_> = changes
                        .iter()
                        .filter(|(key, _)| watch.key.as_ref().is_none_or(|only| only == key))
                        .cloned()
                        .collect();
                    let shown = watch.events.get(revision).cloned().unwrap_or_default();
                    if shown != wanted {
                        found.push(format!(
                            "watch {at} of {:?}: {revision} is {wanted:?}, shown was {shown:?}",
                            watch.key
                        ));
                    }
                }
            }
            if let Some(unknown) = watch.events.keys().find(|at| !self.log.contains_key(at)) {
                found.push(format!("watch {at}: {unknown} is in no other watch"));
            }
        }
        // Each revision has its change: the log has no holes.
        for (one, next) in self.log.keys().zip(self.log.keys().skip(1)) {
            if one + 1 != *next {
                found.push(format!("nobody was shown what is between {one} and {next}"));
            }
        }
    }

    /// Goes through the log; what each key held, by revision.
    fn replay(&self, found: &mut Vec<String>) -> BTreeMap<String, BTreeMap<i64, Option<Held>>> {
        let mut states: BTreeMap<String, BTreeMap<i64, Option<Held>>> = BTreeMap::new();
        for (revision, changes) in &self.log {
            for (key, new) in changes {
                let versions = states.entry(key.clone()).or_default();
                let old = versions.values().last().cloned().flatten();
                if let Some(new) = new {
                    let (create, version) = match &old {
                        Some(old) => (old.create, old.version + 1),
                        None => (*revision, 1),
                    };
                    if (new.create, new.version, new.modified) != (create, version, *revision) {
                        found.push(format!("{revision}: {key} is {new:?} after {old:?}"));
                    }
                } else if old.is_none() {
                    found.push(format!("{revision}: {key} was deleted and did not exist"));
                }
                versions.insert(*revision, new.clone());
            }
        }
        states
    }

    /// Every answer is what the log says of its revision.
    fn check_answers(
        &self,
        states: &BTreeMap<String, BTreeMap<i64, Option<Held>>>,
        found: &mut Vec<String>,
    ) {
        let at = |key: &str, revision: i64| {
            let versions = states.get(key)?;
            versions.range(..=revision).next_back()?.1.clone()
        };
        let newest = self.log.keys().next_back().copied().unwrap_or(1);
        for op in &self.ops {
            match &op.seen {
                Seen::Wrote {
                    revision,
                    puts,
                    deletes,
                    expected,
                } => {
                    let Some(changes) = self.log.get(revision) else {
                        found.push(format!("acknowledged and lost: {op:?}"));
                        continue;
                    };
                    let put = |key: &str, value: &str| {
                        let is = |held: &Held| held.value == value;
                        changes
                            .iter()
                            .any(|(changed, new)| changed == key && new.as_ref().is_some_and(is))
                    };
                    let deleted = |key: &String| changes.contains(&(key.clone(), None));
                    if !puts.iter().all(|(key, value)| put(key, value))
                        || !deletes.iter().all(deleted)
                    {
                        found.push(format!("{op:?}, but the log has {changes:?}"));
                    }
                    if let Some((key, modified)) = expected {
                        let before = at(key, revision - 1).map_or(0, |held| held.modified);
                        if before != *modified {
                            found.push(format!("{op:?}, but the key was of {before}"));
                        }
                    }
                }
                Seen::Read {
                    revision,
                    key,
                    found: read,
                    ..
                } => {
                    let expected = at(key, *revision);
                    if *read != expected || *revision > newest {
                        found.push(format!("{op:?}, but the log says {expected:?}"));
                    }
                }
                Seen::Refused { .. } | Seen::Unknown => {}
            }
        }
    }

    /// Whoever begins after another has ended sees at least as much; a client never sees time go backwards.
    fn check_order(&self, found: &mut Vec<String>) {
        let mut ended: Vec<(u64, i64)> = Vec::new();
        for op in &self.ops {
            match op.seen {
                Seen::Wrote { revision, .. } => ended.push((op.ended, revision)),
                Seen::Read {
                    revision,
                    linearizable: true,
                    ..
                } => ended.push((op.ended, revision)),
                _ => {}
            }
        }
        ended.sort_unstable();
        let mut most = 0;
        for (_, revision) in &mut ended {
            most = most.max(*revision);
            *revision = most;
        }
        let before = |time: u64| match ended.partition_point(|(end, _)| *end < time) {
            0 => 0,
            at => ended[at - 1].1,
        };
        let mut clients: BTreeMap<u64, i64> = BTreeMap::new();
        for op in &self.ops {
            let (revision, least) = match op.seen {
                Seen::Wrote { revision, .. } => (revision, before(op.begun) + 1),
                Seen::Read {
                    revision,
                    linearizable: true,
                    ..
                } => (revision, before(op.begun)),
                Seen::Read { revision, .. } => (revision, 0),
                _ => continue,
            };
            let last = clients.entry(op.client).or_default();
            if revision < least.max(*last) {
                found.push(format!(
                    "stale: {op:?}; {least} was acknowledged, {last} seen by this client"
                ));
            }
            *last = revision;
        }
    }

    /// Nothing took effect twice, and what was refused not at all.
    fn check_effects(&self, found: &mut Vec<String>) {
        let mut values = BTreeSet::new();
        for (revision, changes) in &self.log {
            for (key, held) in changes {
                if let Some(held) = held
                    && !values.insert((key, &held.value))
                {
                    found.push(format!("{revision}: {key} was put twice: {held:?}"));
                }
            }
        }
        let values: BTreeSet<&String> = values.into_iter().map(|(_, value)| value).collect();
        for op in &self.ops {
            if let Seen::Refused { values: refused } = &op.seen
                && refused.iter().any(|value| values.contains(value))
            {
                found.push(format!("refused and done: {op:?}"));
            }
        }
    }

    /// No lease ended early, and each did in the end.
    fn check_leases(&self, found: &mut Vec<String>) {
        let mut alive: BTreeSet<&String> = BTreeSet::new();
        for (revision, changes) in &self.log {
            for (key, held) in changes.iter().filter(|(key, _)| key.starts_with("lease/")) {
                if held.is_some() {
                    alive.insert(key);
                    continue;
                }
                alive.remove(key);
                let Some((begun, lasts)) = self.leased.get(key) else {
                    continue;
                };
                // Clocks may be fast by a tenth.
                let least = begun + lasts / 10 * 9;
                if self.seen_at[revision] < least {
                    found.push(format!("{revision}: {key} went before its lease ended"));
                }
            }
        }
        if !alive.is_empty() {
            found.push(format!("keys outlived their leases: {alive:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(value: &str, create: i64, modified: i64, version: i64) -> Option<Held> {
        Some(Held {
            value: value.to_owned(),
            create,
            modified,
            version,
        })
    }

    fn op(begun: u64, ended: u64, seen: Seen) -> Op {
        Op {
            client: begun,
            begun,
            ended,
            seen,
        }
    }

    fn wrote(revision: i64, put: &str) -> Seen {
        Seen::Wrote {
            revision,
            puts: vec![("k".to_owned(), put.to_owned())],
            deletes: Vec::new(),
            expected: None,
        }
    }

    fn read(revision: i64, found: Option<Held>) -> Seen {
        Seen::Read {
            revision,
            key: "k".to_owned(),
            found,
            linearizable: true,
        }
    }

    /// Two writes of one key, each shown to a watch.
    fn history() -> History {
        let mut history = History::default();
        for (revision, text) in [(2, "a"), (3, "b")] {
            let held = value(text, 2, revision, revision - 1);
            history.log.insert(revision, vec![("k".to_owned(), held)]);
            history.seen_at.insert(revision, 100);
            let at = revision as u64 * 10;
            history.ops.push(op(at, at + 5, wrote(revision, text)));
        }
        history.watches.push(Watched {
            key: None,
            next: 4,
            shown: vec![(1, 3)],
            events: history.log.clone(),
            attached: true,
        });
        history
    }

    fn check(change: impl FnOnce(&mut History), expect: &str) {
        let mut history = history();
        change(&mut history);
        history.check();
        let found = history.violations.join("; ");
        let right = match expect {
            "" => found.is_empty(),
            _ => found.contains(expect),
        };
        assert!(right, "{expect:?}: {found:?}");
    }

    #[test]
    fn what_is_wrong_is_found() {
        let newest = || value("b", 2, 3, 2);
        check(|_| {}, "");
        check(
            |history| history.ops.push(op(40, 41, read(3, newest()))),
            "",
        );
        let old = value("a", 2, 2, 1);
        check(
            |history| history.ops.push(op(40, 41, read(2, old.clone()))),
            "stale",
        );
        check(
            |history| history.ops.push(op(24, 41, read(2, old.clone()))),
            "",
        );
        check(
            |history| history.ops.push(op(40, 41, read(3, None))),
            "but the log says",
        );
        check(
            |history| history.ops.push(op(40, 41, wrote(4, "c"))),
            "acknowledged and lost",
        );
        check(
            |history| history.ops.push(op(40, 41, wrote(3, "c"))),
            "but the log has",
        );
        let refused = Seen::Refused {
            values: vec!["b".to_owned()],
        };
        check(
            |history| history.ops.push(op(1, 2, refused)),
            "refused and done",
        );
        let twice = |history: &mut History| {
            let again = vec![("k".to_owned(), value("b", 2, 4, 3))];
            history.log.insert(4, again);
        };
        check(twice, "put twice");
        let hole = |history: &mut History| drop(history.watches[0].events.remove(&2));
        check(hole, "shown was []");
        let lost = |history: &mut History| {
            history.log.remove(&2);
            history.watches[0].events.remove(&2);
        };
        check(lost, "acknowledged and lost");
    }
}
