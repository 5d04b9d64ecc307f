//! Faults: what can be done to a cluster, when a seed says so, and how it is done.

mod act;
mod links;
mod schedule;

use std::fmt;
use std::str::FromStr;

pub use act::{Needs, Nemesis, heal};
pub use schedule::{Step, Strike, schedule};

/// One row per fault.
const KINDS: &[(Kind, &str)] = &[
    (Kind::Kill, "kill"),
    (Kind::Pause, "pause"),
    (Kind::Isolate, "isolate"),
    (Kind::CutOff, "cut-off"),
    (Kind::OneWay, "one-way"),
    (Kind::Bridge, "bridge"),
    (Kind::Flap, "flap"),
    (Kind::Loss, "loss"),
    (Kind::Delay, "delay"),
    (Kind::SlowFsync, "slow-fsync"),
    (Kind::FullDisk, "full-disk"),
    (Kind::Clock, "clock"),
    (Kind::Members, "members"),
    (Kind::RollingRestart, "rolling-restart"),
    (Kind::All, "all"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// kill -9, started again later.
    Kill,
    /// SIGSTOP, SIGCONT later.
    Pause,
    /// Cut off from the other members, not from clients.
    Isolate,
    /// Cut off from members and clients.
    CutOff,
    /// Hears no other member, but is heard.
    OneWay,
    /// Two members do not hear each other; a third hears both.
    Bridge,
    /// Isolated and back, again and again.
    Flap,
    /// A part of the packets between members is lost.
    Loss,
    /// Packets between members are late.
    Delay,
    /// Every fsync takes long.
    SlowFsync,
    /// No space left on the member's disk.
    FullDisk,
    /// The time of day is wrong.
    Clock,
    /// Removed, wiped and added again.
    Members,
    /// SIGTERM and a new start, one member after the other.
    RollingRestart,
    /// kill -9 of all members at once.
    All,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = KINDS
            .iter()
            .find(|(kind, _)| kind == self)
            .expect("every fault has a row");
        f.write_str(name)
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = KINDS.iter().find(|(_, name)| *name == text);
        let known = || {
            KINDS
                .iter()
                .map(|(_, name)| *name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        found
            .map(|(kind, _)| *kind)
            .ok_or_else(|| anyhow::anyhow!("known faults are {}", known()))
    }
}

impl Kind {
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, _)| *kind)
    }
}

/// Whom a fault hits; found out when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Leader,
    Follower,
    /// The leader and as many others as make a majority.
    Majority,
    Random,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Majority => "majority",
            Self::Random => "random",
        })
    }
}
