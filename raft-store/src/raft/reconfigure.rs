//! Changes of the members, carried out on the leader, one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};

use super::membership::{Change, Facts, Step, list};
use super::state_machine::StateMachine;
use super::types::{Membership, TypeConfig};
use crate::{Error, Member};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Lets one change after the other through.
pub struct Reconfigure {
    member: u64,
    election_timeout: Duration,
    turn: tokio::sync::Mutex<()>,
}

impl Reconfigure {
    pub fn new(member: u64, election_timeout: Duration) -> Self {
        Self {
            member,
            election_timeout,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Carries out a change; the members after it. Only the leader can.
    pub async fn change(&self, raft: &Raft, change: &Change) -> Result<Vec<Member>, Error> {
        let _turn = self.turn.lock().await;
        let (membership, facts) = self.look(raft)?;
        if let Some(step) = change.plan(&membership, &facts)? {
            tracing::info!(?change, "changing the cluster's members");
            self.step(raft, step).await?;
        }
        let metrics = raft.server_metrics();
        let now = metrics.borrow_watched();
        Ok(list(now.membership_config.membership()))
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
        let active: BTreeSet<u64> = heard
            .filter(|(_, at)| {
                at.as_ref()
                    .is_some_and(|at| openraft::Instant::elapsed(&**at) < recent)
            })
            .map(|(id, _)| *id)
            .collect();
        let facts = Facts {
            leader: self.member,
            last_index: metrics.last_log_index.unwrap_or(0),
            matched: matched.collect(),
            active,
        };
        Ok((metrics.membership_config.membership().clone(), facts))
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
        )) => Error::Unhealthy,
        RaftError::APIError(_) => Error::TimeoutLeaderFailed,
        RaftError::Fatal(_) => Error::Stopped,
    }
}
