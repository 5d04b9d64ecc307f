//! Changes of the members, carried out on the leader, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use parking_lot::Mutex;
use tokio::sync::MutexGuard;

use super::membership::{Change, Facts, Step, list};
use super::state_machine::StateMachine;
use super::types::{Membership, TypeConfig};
use crate::peer::{Kind, PeerError, Peers};
use crate::{Error, Leadership, Member};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Lets one change after the other through.
pub struct Reconfigure {
    member: u64,
    election_timeout: Duration,
    turn: tokio::sync::Mutex<()>,
    /// Since when this leader waits for a first sign of a follower.
    awaited: Mutex<BTreeMap<(u64, u64), Instant>>,
}

impl Reconfigure {
    pub fn new(member: u64, election_timeout: Duration) -> Self {
        Self {
            member,
            election_timeout,
            turn: tokio::sync::Mutex::default(),
            awaited: Mutex::default(),
        }
    }

    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Carries out a change; the members after it. Only the leader can.
    pub async fn change(&self, raft: &Raft, change: &Change) -> Result<Vec<Member>, Error> {
        let _turn = self.turn().await;
        self.end_joint(raft).await?;
        let (membership, facts) = self.look(raft)?;
        if let Some(step) = change.plan(&membership, &facts)? {
            if self.removes_self(&step) {
                return Err(self.hand_over(raft, &membership, &facts).await);
            }
            tracing::info!(?change, "changing the cluster's members");
            self.step(raft, step).await?;
        }
        let metrics = raft.server_metrics();
        let now = metrics.borrow_watched();
        Ok(list(now.membership_config.membership()))
    }

    fn removes_self(&self, step: &Step) -> bool {
        matches!(step, Step::RemoveVoters(ids) if ids.contains(&self.member))
    }

    /// A leader that is to be removed lets another one do it: so writes need not wait for an election timeout.
    async fn hand_over(&self, raft: &Raft, membership: &Membership, facts: &Facts) -> Error {
        let Some(target) = best_successor(membership, facts) else {
            return Error::Unhealthy;
        };
        if raft.trigger().transfer_leader(target).await.is_err() {
            return Error::Stopped;
        }
        Error::NotLeader {
            leader: Some(target),
        }
    }

    /// Ends a change of voters that a former leader began.
    pub async fn end_joint(&self, raft: &Raft) -> Result<(), Error> {
        let (membership, _) = self.look(raft)?;
        if membership.get_joint_config().len() > 1 {
            self.step(raft, Step::AddVoterIds(BTreeSet::new())).await?;
        }
        Ok(())
    }

    /// Carries out what the leader decides by itself.
    pub async fn step(&self, raft: &Raft, step: Step) -> Result<(), Error> {
        // Removed voters do not stay as learners.
        raft.change_membership(step, false)
            .await
            .map(drop)
            .map_err(change_error)
    }

    /// The members and what the leader knows of them.
    pub fn look(&self, raft: &Raft) -> Result<(Membership, Facts), Error> {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return Err(match metrics.current_leader {
                Some(leader) if leader != self.member => Error::NotLeader {
                    leader: Some(leader),
                },
                _ => Error::NoLeader,
            });
        }
        let matched = metrics.replication.iter().flatten();
        let matched = matched.filter_map(|(id, at)| Some((*id, at.as_ref()?.index)));
        let recent = 2 * self.election_timeout;
        let heard = metrics.heartbeat.iter().flatten();
        let term = metrics.current_term;
        let mut awaited = self.awaited.lock();
        awaited.retain(|(since, _), _| *since == term);
        let active: BTreeSet<u64> = heard
            .filter(|(id, at)| match at {
                Some(at) => openraft::Instant::elapsed(&**at) < recent,
                // A new leader, or member, is given the time to be heard.
                None => {
                    let since = awaited.entry((term, **id)).or_insert_with(Instant::now);
                    since.elapsed() < recent
                }
            })
            .map(|(id, _)| *id)
            .collect();
        drop(awaited);
        let facts = Facts {
            leader: self.member,
            last_index: metrics.last_log_index.unwrap_or(0),
            matched: matched.collect(),
            active,
        };
        Ok((metrics.membership_config.membership().clone(), facts))
    }
}

/// The voter that lacks least, of those heard of lately.
pub fn best_successor(membership: &Membership, facts: &Facts) -> Option<u64> {
    let able = |id: &u64| *id != facts.leader && facts.active.contains(id);
    membership
        .voter_ids()
        .filter(able)
        .max_by_key(|id| facts.matched.get(id).copied())
}

/// Has a change carried out by whoever leads now.
pub async fn ask_leader(
    raft: &Raft,
    peers: &Arc<Peers>,
    reconfigure: &Reconfigure,
    now: Leadership,
    change: &Change,
    timeout: Duration,
) -> Result<Vec<Member>, Error> {
    let Some(leader) = now.leader else {
        return Err(Error::NoLeader);
    };
    if leader == peers.me.member {
        return reconfigure.change(raft, change).await;
    }
    let body = serde_json::to_vec(change).expect("a change is JSON");
    let answer = peers
        .link(leader)
        .call(Kind::ChangeMembers, body.into(), timeout)
        .await;
    match answer {
        Ok(answer) => serde_json::from_slice(&answer).map_err(|_| Error::NoLeader),
        Err(PeerError::Failed(error)) => Err(error),
        Err(_) => Err(Error::NoLeader),
    }
}

fn change_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => match to.leader_id {
            Some(leader) => Error::NotLeader {
                leader: Some(leader),
            },
            None => Error::NoLeader,
        },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => Error::NoLeader,
        RaftError::APIError(_) => Error::LeaderChanged,
        RaftError::Fatal(_) => Error::Stopped,
    }
}
