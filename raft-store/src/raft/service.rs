//! What this member does for others: openraft's calls, and what only the leader can do.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::candidacy::Candidacy;
use super::membership::Change;
use super::reconfigure::Reconfigure;
use super::state_machine::{Applied, StateMachine};
use super::submit::{Verdict, submit_here};
use super::transfer::Incoming;
use super::types::{MemberInfo, TypeConfig};
use crate::command::Origin;
use crate::mvcc::hash;
use crate::peer::{
    Answer, Kind, Peers, Service, decode_append, decode_proposal, encode_append_answer,
};
use crate::store::leader_leases::{LeaderLeases, encode_time_to_live};
use crate::store::read_index::ReadIndex;
use crate::threads::spawn_blocking;
use crate::{Error, HashKvResponse, limits};

type Raft = openraft::Raft<TypeConfig, StateMachine>;
type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;

/// A lease that a member asks the leader about.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AboutLease {
    pub id: i64,
    pub keys: bool,
}

/// What someone who wants to join is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Introduction {
    pub cluster: u64,
    pub members: Vec<(u64, MemberInfo)>,
    pub removed: Vec<u64>,
}

pub struct PeerService {
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub reads: ReadIndex,
    pub leases: Arc<LeaderLeases>,
    pub reconfigure: Arc<Reconfigure>,
    pub accepted: Accepted,
    pub candidacy: Arc<Candidacy>,
    pub incoming: Incoming,
    /// Told when a leader was heard of.
    pub heard: watch::Sender<Instant>,
}

#[async_trait]
impl Service for PeerService {
    async fn call(&self, from: u64, kind: Kind, body: Bytes) -> Answer {
        match kind {
            Kind::Append => {
                let request = decode_append(body).map_err(malformed)?;
                // One that was deposed is not the leader that is heard of.
                if request.vote >= self.raft.server_metrics().borrow_watched().vote {
                    self.heard.send_replace(Instant::now());
                }
                let answer = self.raft.append_entries(request).await;
                answer
                    .map(|answer| encode_append_answer(&answer))
                    .map_err(|_| Error::Stopped)
            }
            Kind::Vote | Kind::PreVote if self.peers.is_removed(from) => Err(Error::MemberRemoved),
            Kind::Vote => json(&self.vote(parse(&body)?).await?),
            Kind::PreVote => json(&self.pre_vote(parse(&body)?).await?),
            Kind::TransferLeader => {
                let answer = self.raft.handle_transfer_leader(parse(&body)?).await;
                json(&answer.map_err(|_| Error::Stopped)?)
            }
            Kind::Propose => self.propose(body).await,
            Kind::ReadIndex => json(&self.reads.index().await?),
            Kind::KeepAlive => json(
                &self
                    .leases
                    .keep_alive(parse::<AboutLease>(&body)?.id)
                    .await?
                    .ttl,
            ),
            Kind::TimeToLive => {
                let lease: AboutLease = parse(&body)?;
                let answer = self.leases.time_to_live(lease.id, lease.keys).await?;
                Ok(encode_time_to_live(&answer))
            }
            Kind::ChangeMembers => {
                let change: Change = parse(&body)?;
                json(&self.reconfigure.change(&self.raft, &change).await?)
            }
            Kind::HashKv => {
                let revision = body.as_ref().try_into().map(i64::from_le_bytes);
                let revision = revision.map_err(malformed)?;
                json(&hash_kv(self.leases.view.load_full(), revision).await?)
            }
            Kind::Members => json(&self.introduce()),
            Kind::SnapshotBegin => self.incoming.begin(body).await,
            Kind::SnapshotChunk => self.incoming.chunk(body).await,
            Kind::SnapshotEnd => self.incoming.end(&self.raft, body).await,
            _ => Err(Error::Storage(format!("{kind:?} is not a call"))),
        }
    }
}

impl PeerService {
    async fn vote(&self, request: VoteRequest) -> Result<VoteResponse, Error> {
        let answer = self.raft.vote(request).await.map_err(stopped)?;
        if answer.vote_granted {
            self.candidacy.begin();
        }
        Ok(answer)
    }

    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteResponse, Error> {
        let mut answer = self.raft.pre_vote(request.clone()).await.map_err(stopped)?;
        answer.vote_granted = answer.vote_granted && self.candidacy.support(&request);
        Ok(answer)
    }

    async fn propose(&self, body: Bytes) -> Answer {
        let (term, proposal) = decode_proposal(body).map_err(malformed)?;
        let origin = proposal.batch().origin;
        let verdict = if self.accepted.note(term, origin) {
            submit_here(&self.raft, term, proposal).await
        } else {
            // It came before, over a connection that broke.
            Verdict::Unknown
        };
        if verdict == Verdict::Refused {
            self.accepted.forget(origin);
        }
        json(&verdict)
    }

    fn introduce(&self) -> Introduction {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership().nodes();
        Introduction {
            cluster: self.peers.me.cluster,
            members: members.map(|(id, info)| (*id, info.clone())).collect(),
            removed: self.peers.roster().removed.into_iter().collect(),
        }
    }
}

/// Which batches of other members this leader has taken: one that is sent again must not enter the log again.
#[derive(Default)]
pub struct Accepted(Mutex<HashMap<(u64, u64), Sequences>>);

#[derive(Default)]
struct Sequences {
    term: u64,
    recent: VecDeque<u64>,
}

impl Accepted {
    /// Whether the batch is new in this term.
    fn note(&self, term: u64, origin: Origin) -> bool {
        let mut accepted = self.0.lock();
        // Earlier runs of a member send nothing more.
        accepted.retain(|(member, boot), _| *member != origin.member || *boot == origin.boot);
        let known = accepted.entry((origin.member, origin.boot)).or_default();
        if known.term < term {
            *known = Sequences {
                term,
                ..Default::default()
            };
        }
        if known.term > term || known.recent.contains(&origin.sequence) {
            return false;
        }
        if known.recent.len() == limits::PROPOSALS_REMEMBERED {
            known.recent.pop_front();
        }
        known.recent.push_back(origin.sequence);
        true
    }

    fn forget(&self, origin: Origin) {
        if let Some(known) = self.0.lock().get_mut(&(origin.member, origin.boot)) {
            known.recent.retain(|sequence| *sequence != origin.sequence);
        }
    }
}

/// Hash of the keys and history that `view` shows at `revision` (0 = newest).
pub async fn hash_kv(view: Arc<Applied>, revision: i64) -> Result<HashKvResponse, Error> {
    let hash = spawn_blocking(move || hash::hash_kv(&view.snapshot, view.horizon, revision)).await;
    Ok(hash.map_err(|_| Error::Stopped)??)
}

fn json(answer: &impl Serialize) -> Answer {
    Ok(serde_json::to_vec(answer)
        .expect("an answer is JSON")
        .into())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(malformed)
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Storage(format!("malformed call: {error}"))
}

fn stopped<E>(_: E) -> Error {
    Error::Stopped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_taken_once_per_term() {
        let accepted = Accepted::default();
        let origin = |boot, sequence| Origin {
            member: 1,
            boot,
            sequence,
        };
        assert!(accepted.note(5, origin(1, 1)));
        assert!(!accepted.note(5, origin(1, 1)), "it was taken");
        assert!(accepted.note(5, origin(1, 2)));
        accepted.forget(origin(1, 2));
        assert!(accepted.note(5, origin(1, 2)), "it was refused");
        assert!(
            accepted.note(6, origin(1, 1)),
            "what term 5 left is decided"
        );
        assert!(!accepted.note(5, origin(1, 9)), "term 5 is over");
        assert!(accepted.note(6, origin(2, 1)), "another run of the member");
    }
}
