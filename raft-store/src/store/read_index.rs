//! ReadIndex: proof, before a linearizable read, that this member has applied all that was acknowledged before it.
//!
//! Reads that come while a round is under way share the next one. The only voter needs no round: it acknowledges a
//! write after its own view shows it, so while it leads its view holds every acknowledged write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::raft::{StateMachine, TypeConfig};

type Raft = openraft::Raft<TypeConfig, StateMachine>;
type Waiter = oneshot::Sender<Result<(), Error>>;

pub struct ReadIndex {
    /// No other member can make this one's leadership void.
    sole_voter: Arc<AtomicBool>,
    leads: Arc<AtomicBool>,
    waiters: mpsc::Sender<Waiter>,
}

impl ReadIndex {
    /// The handle, and what [`rounds`] takes in.
    pub fn new(
        sole_voter: Arc<AtomicBool>,
        leads: Arc<AtomicBool>,
    ) -> (Self, mpsc::Receiver<Waiter>) {
        let (waiters, receiver) = mpsc::channel(crate::limits::MAX_QUEUED_READS);
        (
            Self {
                sole_voter,
                leads,
                waiters,
            },
            receiver,
        )
    }

    /// Returns once this member's view is as new as every write acknowledged before the call.
    pub async fn wait(&self) -> Result<(), Error> {
        if self.sole_voter.load(Ordering::SeqCst) && self.leads.load(Ordering::SeqCst) {
            return Ok(());
        }
        let (sender, done) = oneshot::channel();
        self.waiters
            .send(sender)
            .await
            .map_err(|_| Error::Stopped)?;
        done.await.map_err(|_| Error::Stopped)?
    }
}

/// Runs one round after the other, each for all who wait when it begins.
pub async fn rounds(raft: Raft, mut waiters: mpsc::Receiver<Waiter>) {
    let mut batch = Vec::new();
    while waiters
        .recv_many(&mut batch, crate::limits::MAX_QUEUED_READS)
        .await
        > 0
    {
        let result = round(&raft).await;
        for waiter in batch.drain(..) {
            // A reader that gave up does not take its answer.
            let _ = waiter.send(result.clone());
        }
    }
}

async fn round(raft: &Raft) -> Result<(), Error> {
    let linearizer = raft
        .get_read_linearizer(ReadPolicy::ReadIndex)
        .await
        .map_err(|error| match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => match to.leader_id {
                Some(leader) => Error::NotLeader {
                    leader: Some(leader),
                },
                None => Error::NoLeader,
            },
            RaftError::APIError(_) => Error::NoLeader,
            RaftError::Fatal(_) => Error::Stopped,
        })?;
    linearizer
        .await_ready(raft)
        .await
        .map_err(|_| Error::Stopped)?;
    Ok(())
}
