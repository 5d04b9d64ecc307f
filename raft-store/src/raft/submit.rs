//! Handing a batch to the leader of one term, and what is known of it afterwards.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason};
use openraft::impls::ProgressResponder;
use serde::{Deserialize, Serialize};

use super::state_machine::StateMachine;
use super::types::{Proposal, TypeConfig};
use crate::peer::{Kind, Peers, encode_proposal};

type Raft = openraft::Raft<TypeConfig, StateMachine>;
type LeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is committed.
    Accepted,
    /// It is in no log and never will be.
    Refused,
    /// It may be in a log. An entry of a later term that is applied before it proves that it is lost.
    Unknown,
}

/// Submits to this member, if it leads in `term`. Waits while it leads without hearing of a majority.
pub async fn submit_here(raft: &Raft, term: u64, proposal: Proposal) -> Verdict {
    let mut progress = raft.data_metrics();
    loop {
        let (responder, outcome) = ProgressResponder::complete_only();
        progress.borrow_and_update();
        let request = raft
            .write(proposal.clone())
            .responder(responder)
            .with_leader(LeaderId::new(term));
        if request.await.is_err() {
            return Verdict::Unknown;
        }
        match outcome.await {
            Ok(Ok(_)) => return Verdict::Accepted,
            Ok(Err(ClientWriteError::ForwardToLeader(to)))
                if to.reason == ForwardReason::LeaseExpired =>
            {
                // Each acknowledgement of a member changes the metrics.
                if progress.changed().await.is_err() {
                    return Verdict::Refused;
                }
            }
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => return Verdict::Refused,
            Ok(Err(_)) | Err(_) => return Verdict::Unknown,
        }
    }
}

/// Submits to another member.
pub async fn submit_there(
    peers: &Arc<Peers>,
    leader: u64,
    term: u64,
    proposal: &Proposal,
    timeout: Duration,
) -> Verdict {
    let body = encode_proposal(term, proposal);
    match peers.link(leader).call(Kind::Propose, body, timeout).await {
        Ok(answer) => serde_json::from_slice(&answer).unwrap_or(Verdict::Unknown),
        Err(error) if error.is_unsent() => Verdict::Refused,
        Err(_) => Verdict::Unknown,
    }
}
