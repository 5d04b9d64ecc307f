//! Changes of the cluster's members: what may be changed when, as etcd has it. Pure: facts in, a change for Raft out.
//!
//! A member that is added as a voter first follows as a learner; the leader promotes it once it has caught up. So an
//! added member that never starts costs no quorum.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;
use serde::{Deserialize, Serialize};

use super::types::{MemberInfo, Membership};
use crate::{Error, Member, limits};

/// A change of the members, as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Add {
        id: u64,
        peer_urls: Vec<String>,
        is_learner: bool,
    },
    Remove {
        id: u64,
    },
    Update {
        id: u64,
        peer_urls: Vec<String>,
    },
    Promote {
        id: u64,
    },
    /// A member that has started tells what others do not know of it.
    Publish {
        id: u64,
        name: String,
        client_urls: Vec<String>,
        incarnation: u64,
        /// Where it is reached from now on; none if that has not changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer_urls: Option<Vec<String>>,
    },
}

/// What the leader knows of the members besides their list.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub leader: u64,
    /// Index of the leader's last entry.
    pub last_index: u64,
    /// Up to which entry each follower's log agrees.
    pub matched: BTreeMap<u64, u64>,
    /// Followers heard of lately.
    pub active: BTreeSet<u64>,
}

pub type Step = ChangeMembers<u64, MemberInfo>;

/// The members as clients are told of them, in order of their ids.
pub fn list(membership: &Membership) -> Vec<Member> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member = |(id, info): (&u64, &MemberInfo)| Member {
        id: *id,
        name: info.name.clone(),
        peer_urls: info.peer_urls.clone(),
        client_urls: info.client_urls.clone(),
        is_learner: !voters.contains(id) && !info.becomes_voter,
    };
    membership.nodes().map(member).collect()
}

impl Change {
    /// What Raft must change, or why the change is refused; nothing if all is as asked for.
    pub fn plan(&self, membership: &Membership, facts: &Facts) -> Result<Option<Step>, Error> {
        let view = View { membership, facts };
        match self {
            Change::Add {
                id,
                peer_urls,
                is_learner,
            } => view.add(*id, peer_urls, *is_learner),
            Change::Remove { id } => view.remove(*id).map(Some),
            Change::Update { id, peer_urls } => view.update(*id, peer_urls),
            Change::Promote { id } => view.promote(*id).map(Some),
            Change::Publish {
                id,
                name,
                client_urls,
                incarnation,
                peer_urls,
            } => view.publish(*id, name, client_urls, *incarnation, peer_urls.as_ref()),
        }
    }
}

/// Checks that the URLs of a member are of the form that etcd takes, and puts them in order.
pub fn check_urls(urls: &[String]) -> Result<Vec<String>, Error> {
    let valid = |url: &String| {
        let Some((scheme, rest)) = url.split_once("://") else {
            return false;
        };
        let is_local = matches!(scheme, "unix" | "unixs");
        let port = rest.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        (is_local || matches!(scheme, "http" | "https"))
            && !rest.contains('/')
            && rest.trim() == rest
            && (is_local || matches!(port, Some(Ok(_))))
    };
    if urls.is_empty() || !urls.iter().all(valid) {
        return Err(Error::InvalidMemberUrls);
    }
    let mut urls = urls.to_vec();
    urls.sort();
    Ok(urls)
}

/// The learner that the leader should promote next: added as a voter, and caught up.
pub fn next_promotion(membership: &Membership, facts: &Facts) -> Option<u64> {
    let waits = |(id, info): &(&u64, &MemberInfo)| {
        info.becomes_voter
            && info.is_started()
            && membership.learner_ids().any(|learner| learner == **id)
            && facts.lag(**id) <= limits::PROMOTION_LAG_ENTRIES
    };
    membership.nodes().find(waits).map(|(id, _)| *id)
}

impl Facts {
    /// Entries that a follower has yet to get.
    fn lag(&self, id: u64) -> u64 {
        match self.matched.get(&id) {
            Some(matched) => self.last_index.saturating_sub(*matched),
            None => u64::MAX,
        }
    }
}

struct View<'a> {
    membership: &'a Membership,
    facts: &'a Facts,
}

impl View<'_> {
    fn info(&self, id: u64) -> Result<&MemberInfo, Error> {
        self.membership.get_node(&id).ok_or(Error::MemberNotFound)
    }

    fn is_voter(&self, id: u64) -> bool {
        self.membership.voter_ids().any(|voter| voter == id)
    }

    /// Voters, and those that will be.
    fn voting(&self) -> impl Iterator<Item = (u64, &MemberInfo)> {
        let voting = |(id, info): &(&u64, &MemberInfo)| self.is_voter(**id) || info.becomes_voter;
        self.membership
            .nodes()
            .filter(voting)
            .map(|(id, info)| (*id, info))
    }

    fn check_urls_unused(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let others = self.membership.nodes().filter(|(other, _)| **other != id);
        let taken = others
            .flat_map(|(_, info)| &info.peer_urls)
            .any(|url| urls.contains(url));
        if taken {
            return Err(Error::PeerUrlExists);
        }
        Ok(())
    }

    fn add(&self, id: u64, peer_urls: &[String], is_learner: bool) -> Result<Option<Step>, Error> {
        match self.membership.get_node(&id) {
            // Asked for twice, since the first answer was lost.
            Some(info) if info.peer_urls == peer_urls => return Ok(None),
            Some(_) => return Err(Error::MemberExists),
            None => {}
        }
        self.check_urls_unused(id, peer_urls)?;
        if is_learner {
            let learners = self.membership.nodes().count() - self.voting().count();
            if learners >= limits::MAX_LEARNERS {
                return Err(Error::TooManyLearners);
            }
        } else {
            let started = self.voting().filter(|(_, info)| info.is_started()).count();
            let members = self.voting().count() + 1;
            // One member alone may always get a second one.
            if (started, members) != (1, 2) && started < members / 2 + 1 {
                return Err(Error::NotEnoughStarted);
            }
        }
        let info = MemberInfo {
            peer_urls: peer_urls.to_vec(),
            becomes_voter: !is_learner,
            ..Default::default()
        };
        Ok(Some(ChangeMembers::AddNodes(BTreeMap::from([(id, info)]))))
    }

    fn remove(&self, id: u64) -> Result<Step, Error> {
        self.info(id)?;
        if !self.is_voter(id) {
            return Ok(ChangeMembers::RemoveNodes(BTreeSet::from([id])));
        }
        let left = || self.voting().filter(|(other, _)| *other != id);
        let started = left().filter(|(_, info)| info.is_started()).count();
        if started < left().count() / 2 + 1 {
            return Err(Error::NotEnoughStarted);
        }
        // Those that are left must be able to go on; to remove one that is down is always right.
        let is_up = |id: u64| id == self.facts.leader || self.facts.active.contains(&id);
        let voters = self.membership.voter_ids().filter(|other| *other != id);
        let (up, all) = voters.fold((0, 0), |(up, all), id| {
            (up + usize::from(is_up(id)), all + 1)
        });
        if is_up(id) && up < all / 2 + 1 {
            return Err(Error::Unhealthy);
        }
        Ok(ChangeMembers::RemoveVoters(BTreeSet::from([id])))
    }

    fn update(&self, id: u64, peer_urls: &[String]) -> Result<Option<Step>, Error> {
        let info = self.info(id)?;
        self.check_urls_unused(id, peer_urls)?;
        let new = MemberInfo {
            peer_urls: peer_urls.to_vec(),
            ..info.clone()
        };
        Ok(set(id, info, new))
    }

    fn promote(&self, id: u64) -> Result<Step, Error> {
        let info = self.info(id)?;
        if self.is_voter(id) || info.becomes_voter {
            return Err(Error::MemberNotLearner);
        }
        // As etcd: nine tenths of the leader's log.
        let matched = self.facts.matched.get(&id).copied().unwrap_or(0);
        if !info.is_started() || matched * 10 < self.facts.last_index * 9 {
            return Err(Error::LearnerNotReady);
        }
        let started = self.voting().filter(|(_, info)| info.is_started()).count() + 1;
        if started < self.voting().count().div_ceil(2) + 1 {
            return Err(Error::NotEnoughStarted);
        }
        Ok(ChangeMembers::AddVoterIds(BTreeSet::from([id])))
    }

    fn publish(
        &self,
        id: u64,
        name: &str,
        client_urls: &[String],
        incarnation: u64,
        peer_urls: Option<&Vec<String>>,
    ) -> Result<Option<Step>, Error> {
        let info = self.info(id)?;
        let peer_urls = peer_urls.unwrap_or(&info.peer_urls);
        self.check_urls_unused(id, peer_urls)?;
        let new = MemberInfo {
            name: name.to_owned(),
            peer_urls: peer_urls.clone(),
            client_urls: client_urls.to_vec(),
            incarnation: if info.incarnation == 0 {
                incarnation
            } else {
                info.incarnation
            },
            ..info.clone()
        };
        Ok(set(id, info, new))
    }
}

fn set(id: u64, old: &MemberInfo, new: MemberInfo) -> Option<Step> {
    (*old != new).then(|| ChangeMembers::SetNodes(BTreeMap::from([(id, new)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Voters 1..=voters and learners after them, all started.
    fn membership(voters: u64, learners: u64) -> Membership {
        let info = |id: u64| MemberInfo {
            name: format!("m{id}"),
            peer_urls: vec![format!("http://10.0.0.{id}:2380")],
            ..Default::default()
        };
        let nodes: BTreeMap<u64, MemberInfo> =
            (1..=voters + learners).map(|id| (id, info(id))).collect();
        Membership::new(vec![(1..=voters).collect()], nodes).unwrap()
    }

    fn facts(active: &[u64], matched: u64) -> Facts {
        Facts {
            leader: 1,
            last_index: 1000,
            matched: active.iter().map(|id| (*id, matched)).collect(),
            active: active.iter().copied().collect(),
        }
    }

    fn check(change: Change, membership: &Membership, facts: &Facts, expect: &str) {
        let found = match change.plan(membership, facts) {
            Ok(Some(step)) => step.to_string(),
            Ok(None) => "nothing to do".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(
            found.contains(expect),
            "{change:?}: {found}, expected {expect}"
        );
    }

    fn add(port: u16, is_learner: bool) -> Change {
        Change::Add {
            id: 9,
            peer_urls: vec![format!("http://10.0.0.3:{port}")],
            is_learner,
        }
    }

    #[test]
    fn changes_are_refused_as_etcd_refuses_them() {
        let three = membership(3, 0);
        let all = facts(&[2, 3], 1000);
        check(add(1, false), &three, &all, "AddNodes");
        check(add(2380, false), &three, &all, "Peer URLs already exists");
        check(add(1, true), &membership(3, 1), &all, "too many learner");
        check(Change::Remove { id: 7 }, &three, &all, "member not found");
        check(Change::Remove { id: 2 }, &three, &all, "RemoveVoters");
        check(
            Change::Remove { id: 2 },
            &three,
            &facts(&[2], 1000),
            "unhealthy cluster",
        );
        check(
            Change::Remove { id: 3 },
            &three,
            &facts(&[2], 1000),
            "RemoveVoters",
        );
        check(
            Change::Remove { id: 1 },
            &membership(1, 0),
            &facts(&[], 0),
            "not enough started",
        );
        check(
            Change::Remove { id: 4 },
            &membership(3, 1),
            &all,
            "RemoveNodes",
        );
    }

    #[test]
    fn learners_are_promoted_once_they_have_caught_up() {
        let with_learner = membership(3, 1);
        let promote = |id| Change::Promote { id };
        let behind = facts(&[2, 3, 4], 899);
        check(promote(4), &with_learner, &behind, "in sync with leader");
        check(
            promote(4),
            &with_learner,
            &facts(&[2, 3, 4], 901),
            "AddVoterIds",
        );
        check(
            promote(2),
            &with_learner,
            &behind,
            "can only promote a learner member",
        );
        check(promote(8), &with_learner, &behind, "member not found");
    }

    #[test]
    fn a_member_tells_that_it_has_moved() {
        let publish = |port: u16| Change::Publish {
            id: 2,
            name: "m2".to_owned(),
            client_urls: Vec::new(),
            incarnation: 0,
            peer_urls: Some(vec![format!("http://10.0.0.2:{port}")]),
        };
        let (three, all) = (membership(3, 0), facts(&[2, 3], 1000));
        check(publish(2380), &three, &all, "nothing to do");
        check(publish(2381), &three, &all, "10.0.0.2:2381");
        let taken = Change::Publish {
            id: 2,
            name: "m2".to_owned(),
            client_urls: Vec::new(),
            incarnation: 0,
            peer_urls: Some(vec!["http://10.0.0.3:2380".to_owned()]),
        };
        check(taken, &three, &all, "Peer URLs already exists");
    }

    #[test]
    fn urls_are_checked() {
        let check = |url: &str, expect: bool| {
            let found = check_urls(&[url.to_owned()]);
            assert_eq!(found.is_ok(), expect, "{url}");
        };
        check("http://10.0.0.1:2380", true);
        check("https://[::1]:2380", true);
        check("http://10.0.0.1", false);
        check("ftp://10.0.0.1:2380", false);
        check("10.0.0.1:2380", false);
        check("http://10.0.0.1:2380/path", false);
    }
}
