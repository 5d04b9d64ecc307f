//! The greeting that opens a connection: who calls whom, in which cluster, by which protocol. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Version of frames and messages. A member speaks one version at a time; another is refused.
pub const PROTOCOL: u32 = 1;

/// Who this member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me {
    pub cluster: u64,
    pub member: u64,
    /// Of this member's data directory.
    pub incarnation: u64,
}

/// What a caller says first. 0 stands for "not known".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    pub cluster: u64,
    pub from: u64,
    pub from_incarnation: u64,
    pub to: u64,
    pub to_incarnation: u64,
}

impl Hello {
    /// To a member whose id is known.
    pub fn to_member(me: Me, to: u64, to_incarnation: u64) -> Self {
        Self {
            protocol: PROTOCOL,
            cluster: me.cluster,
            from: me.member,
            from_incarnation: me.incarnation,
            to,
            to_incarnation,
        }
    }

    /// To whoever answers there, by someone who is not a member yet.
    pub fn stranger() -> Self {
        Self {
            protocol: PROTOCOL,
            ..Self::default()
        }
    }

    /// Whether it comes from outside of the cluster: it may only ask who is there.
    pub fn is_stranger(&self) -> bool {
        self.from == 0
    }
}

/// Why a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the member speaks peer protocol {theirs}, the caller {yours}")]
    Protocol { theirs: u32, yours: u32 },
    #[error("the member belongs to cluster {theirs:x}, the caller to {yours:x}")]
    Cluster { theirs: u64, yours: u64 },
    #[error("member {theirs:x} was reached where {wanted:x} was expected")]
    Member { theirs: u64, wanted: u64 },
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error(
        "the member's data was lost and made anew under its old id; remove the member and add it again"
    )]
    CallerWiped,
    #[error(
        "the called member's data was lost and made anew under its old id; remove the member and add it again"
    )]
    CalledWiped,
    #[error("the member does not run yet")]
    NotReady,
}

impl Refusal {
    /// Whether the caller can never be a member again.
    pub fn is_final(&self) -> bool {
        matches!(self, Refusal::Removed | Refusal::CallerWiped)
    }
}

/// The members as this one knows them.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// Incarnation of each member, 0 while unknown.
    pub incarnations: BTreeMap<u64, u64>,
    /// Ids that were members once and never will be again.
    pub removed: BTreeSet<u64>,
}

/// Decides over a caller.
pub fn check(me: Me, roster: &Roster, hello: &Hello) -> Result<(), Refusal> {
    if hello.protocol != PROTOCOL {
        return Err(Refusal::Protocol {
            theirs: PROTOCOL,
            yours: hello.protocol,
        });
    }
    if hello.is_stranger() {
        return Ok(());
    }
    if hello.cluster != me.cluster {
        return Err(Refusal::Cluster {
            theirs: me.cluster,
            yours: hello.cluster,
        });
    }
    if hello.to != me.member {
        return Err(Refusal::Member {
            theirs: me.member,
            wanted: hello.to,
        });
    }
    if roster.removed.contains(&hello.from) {
        return Err(Refusal::Removed);
    }
    let differ = |known: u64, told: u64| known != 0 && told != 0 && known != told;
    let known = roster.incarnations.get(&hello.from).copied().unwrap_or(0);
    if differ(known, hello.from_incarnation) {
        return Err(Refusal::CallerWiped);
    }
    if differ(hello.to_incarnation, me.incarnation) {
        return Err(Refusal::CalledWiped);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_belongs_here_is_let_in() {
        let me = Me {
            cluster: 1,
            member: 2,
            incarnation: 20,
        };
        let roster = Roster {
            incarnations: BTreeMap::from([(2, 20), (3, 30), (4, 0)]),
            removed: BTreeSet::from([9]),
        };
        let check = |change: &dyn Fn(&mut Hello), expect: &str| {
            let caller = Me {
                cluster: 1,
                member: 3,
                incarnation: 30,
            };
            let mut hello = Hello::to_member(caller, 2, 20);
            change(&mut hello);
            let found = super::check(me, &roster, &hello);
            let found = found.map_or_else(|refusal| refusal.to_string(), |()| "let in".to_owned());
            assert!(found.contains(expect), "{hello:?}: {found}");
        };
        check(&|_| {}, "let in");
        check(&|hello| hello.protocol = 9, "speaks peer protocol 1");
        check(&|hello| hello.cluster = 7, "belongs to cluster 1");
        check(&|hello| hello.to = 8, "member 2 was reached");
        check(&|hello| hello.from = 9, "permanently removed");
        check(
            &|hello| hello.from_incarnation = 31,
            "the member's data was lost",
        );
        check(
            &|hello| hello.to_incarnation = 21,
            "the called member's data",
        );
        check(&|hello| hello.from = 4, "let in");
        check(&|hello| *hello = Hello::stranger(), "let in");
    }
}
