//! Checkers: each takes the history and says what in it must not be. Pure; they know no server, no clock, no fault.

mod acknowledged;
mod agree;
mod append;
mod fence;
mod lease;
mod linear;
mod replay;
mod revision;
mod search;
mod state;
#[cfg(test)]
mod testing;
mod watch;

use crate::cluster::Level;
use crate::history::History;

/// What one checker found.
pub struct Verdict {
    pub checker: &'static str,
    /// What it promises when it finds nothing.
    pub promise: &'static str,
    /// How much it looked at.
    pub looked_at: usize,
    pub violations: Vec<String>,
    /// Objects it could not decide within its limits.
    pub undecided: usize,
}

impl Verdict {
    pub fn in_words(&self) -> String {
        match (self.violations.len(), self.undecided) {
            (0, 0) => "holds".to_owned(),
            (0, undecided) => format!("holds, {undecided} objects undecided"),
            (violations, _) => format!("VIOLATED, {violations} times"),
        }
    }
}

/// A checker's violations; those above the limit are only counted.
#[derive(Default)]
pub struct Findings {
    pub looked_at: usize,
    pub undecided: usize,
    violations: Vec<String>,
    more: usize,
}

const MAX_SHOWN: usize = 20;

impl Findings {
    pub fn add(&mut self, what: impl FnOnce() -> String) {
        if self.violations.len() < MAX_SHOWN {
            self.violations.push(what());
        } else {
            self.more += 1;
        }
    }

    pub fn finish(mut self, checker: &'static str, promise: &'static str) -> Verdict {
        if self.more > 0 {
            self.violations.push(format!("and {} more", self.more));
        }
        Verdict {
            checker,
            promise,
            looked_at: self.looked_at,
            violations: self.violations,
            undecided: self.undecided,
        }
    }

    #[cfg(test)]
    pub fn texts(&self) -> &[String] {
        &self.violations
    }
}

type Check = fn(&History) -> Findings;

/// One row per checker.
const CHECKERS: &[(&str, &str, Check)] = &[
    (
        "linearizable",
        "registers, pairs and lists behave as if each call happened at one moment between its begin and its end",
        linear::check,
    ),
    (
        "appends",
        "no acknowledged element of a list is lost, doubled or out of order, no read misses one",
        append::check,
    ),
    (
        "replay",
        "every acknowledged write is in the store's history, at its revision, once; every read shows that history's state",
        replay::check,
    ),
    (
        "revisions",
        "no answer is older than what was answered before the call began, whichever member was asked",
        revision::check,
    ),
    (
        "watches",
        "watchers get every event once, in order, whole revisions together, and go on where they stopped",
        watch::check,
    ),
    (
        "leases",
        "no key goes before its lease was due, none stays, keys of a lease go together",
        lease::check,
    ),
    (
        "fence",
        "only who leads writes what is fenced",
        fence::check,
    ),
    (
        "members",
        "all members are there at the end, with the same hash and the same history",
        agree::check,
    ),
];

/// Those that need no more of the store than resourceVersions.
const OF_CLUSTERS: &[(&str, &str, Check)] = &[
    (
        "linearizable",
        "objects behave as if each call happened at one moment between its begin and its end",
        linear::check,
    ),
    (
        "acknowledged",
        "every acknowledged write was seen by watchers, at its resourceVersion, once",
        acknowledged::check,
    ),
    (
        "revisions",
        "no resourceVersion is older than what was answered before the call began, whichever master was asked",
        revision::check,
    ),
    (
        "watches",
        "watchers get every event once, in order, and go on at another master where they stopped",
        watch::check,
    ),
    (
        "convergence",
        "masters are back, Deployment and StatefulSet are as asked, no pod was bound to two nodes or ran twice at a time",
        agree::check,
    ),
];

pub fn all(level: Level, history: &History) -> Vec<Verdict> {
    let checkers = match level {
        Level::Store => CHECKERS,
        Level::Cluster => OF_CLUSTERS,
    };
    let run = |(name, promise, check): &(&'static str, &'static str, Check)| {
        check(history).finish(name, promise)
    };
    checkers.iter().map(run).collect()
}
