//! ReadIndex: proof, before a linearizable read, that this member has applied all that was acknowledged before it.
//!
//! Reads that come while a round is under way share the next one; a follower's round is one question to the leader,
//! which shares it with its own. The only voter needs no round: it acknowledges a write after its own view shows it,
//! so while it leads its view holds every acknowledged write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::peer::{Kind, Peers};
use crate::planted::{Bug, planted};
use crate::raft::{StateMachine, TypeConfig};
use crate::{Error, Leadership, limits};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Who waits for a round.
pub enum Waiter {
    /// A reader here: wants this member to have applied the index.
    Applied(oneshot::Sender<Result<(), Error>>),
    /// Another member: wants to know the index, from the leader only.
    Index(oneshot::Sender<Result<u64, Error>>),
    /// A reader that only the leader can answer.
    Leader(oneshot::Sender<Result<(), Error>>),
}

#[derive(Clone)]
pub struct ReadIndex {
    /// No other member can make this one's leadership void.
    sole_voter: Arc<AtomicBool>,
    leads: Arc<AtomicBool>,
    waiters: mpsc::Sender<Waiter>,
}

impl ReadIndex {
    /// The handle, and what [`Rounds`] takes in.
    pub fn new(
        sole_voter: Arc<AtomicBool>,
        leads: Arc<AtomicBool>,
    ) -> (Self, mpsc::Receiver<Waiter>) {
        let (waiters, receiver) = mpsc::channel(limits::MAX_QUEUED_READS);
        (
            Self {
                sole_voter,
                leads,
                waiters,
            },
            receiver,
        )
    }

    fn is_alone(&self) -> bool {
        self.sole_voter.load(Ordering::SeqCst) && self.leads.load(Ordering::SeqCst)
    }

    /// Returns once this member's view is as new as every write acknowledged before the call.
    pub async fn wait(&self) -> Result<(), Error> {
        if self.is_alone() || planted(Bug::StaleRead) {
            return Ok(());
        }
        self.ask(Waiter::Applied).await
    }

    /// Likewise, but fails unless this member leads.
    pub async fn wait_as_leader(&self) -> Result<(), Error> {
        if self.is_alone() {
            return Ok(());
        }
        self.ask(Waiter::Leader).await
    }

    /// As leader: the index of an entry that holds every write acknowledged before the call.
    pub async fn index(&self) -> Result<u64, Error> {
        self.ask(Waiter::Index).await
    }

    /// Reads that wait to be taken up by a round.
    pub fn queued(&self) -> usize {
        self.waiters.max_capacity() - self.waiters.capacity()
    }

    async fn ask<T>(
        &self,
        waiter: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Waiter,
    ) -> Result<T, Error> {
        let (sender, done) = oneshot::channel();
        self.waiters
            .send(waiter(sender))
            .await
            .map_err(|_| Error::Stopped)?;
        done.await.map_err(|_| Error::Stopped)?
    }
}

/// What rounds need.
pub struct Rounds {
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub leadership: watch::Receiver<Leadership>,
    /// Index of the newest applied entry.
    pub applied: watch::Receiver<u64>,
    pub request_timeout: Duration,
    /// A leader that did not answer is asked again after this.
    pub retry: Duration,
}

impl Rounds {
    /// Runs one round after the other, each for all who wait when it begins.
    pub async fn run(mut self, mut waiters: mpsc::Receiver<Waiter>) {
        let mut batch = Vec::new();
        while waiters
            .recv_many(&mut batch, limits::MAX_QUEUED_READS)
            .await
            > 0
        {
            let now = *self.leadership.borrow_and_update();
            if now.leader == Some(self.peers.me.member) {
                let index = self.index_here(now.leader).await;
                self.settle_as_leader(&mut batch, index).await;
            } else {
                refuse_followers(&mut batch, now);
            }
            if !batch.is_empty() {
                let result = self.applied_round().await;
                for waiter in batch.drain(..) {
                    if let Waiter::Applied(sender) = waiter {
                        // A reader that gave up does not take its answer.
                        let _ = sender.send(result.clone());
                    }
                }
            }
        }
    }

    /// Answers everyone if the leader's round succeeded; else whoever may ask another leader stays.
    async fn settle_as_leader(&mut self, batch: &mut Vec<Waiter>, index: Result<u64, Error>) {
        answer_index(batch, &index);
        if batch.is_empty() {
            return;
        }
        let applied = match &index {
            Ok(index) => self.await_applied(*index, self.deadline()).await,
            Err(error) => Err(error.clone()),
        };
        batch.retain_mut(|waiter| {
            let empty = Waiter::Index(oneshot::channel().0);
            match std::mem::replace(waiter, empty) {
                Waiter::Leader(sender) => drop(sender.send(applied.clone())),
                Waiter::Applied(sender) if applied.is_ok() => drop(sender.send(Ok(()))),
                kept => {
                    *waiter = kept;
                    return true;
                }
            }
            false
        });
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.request_timeout
    }

    /// Asks whoever leads until one answers, for at most as long as a request may take.
    async fn applied_round(&mut self) -> Result<(), Error> {
        let deadline = self.deadline();
        loop {
            let now = *self.leadership.borrow_and_update();
            let index = match now.leader {
                Some(leader) if leader == self.peers.me.member => self.index_here(now.leader).await,
                Some(leader) => self.index_there(leader).await,
                None => Err(Error::NoLeader),
            };
            match index {
                Ok(index) => return self.await_applied(index, deadline).await,
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Err(timeout(now)),
                () = tokio::time::sleep(self.retry) => {}
                changed = self.leadership.changed() => changed.map_err(|_| Error::Stopped)?,
            }
            if Instant::now() >= deadline {
                return Err(timeout(now));
            }
        }
    }

    async fn await_applied(&mut self, index: u64, deadline: Instant) -> Result<(), Error> {
        let reached = self.applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::TimeoutApplied),
        }
    }

    async fn index_there(&self, leader: u64) -> Result<u64, Error> {
        let link = self.peers.link(leader);
        let answer = link
            .call(Kind::ReadIndex, Bytes::new(), self.request_timeout)
            .await;
        let answer = answer.map_err(|_| Error::NoLeader)?;
        serde_json::from_slice(&answer).map_err(|_| Error::NoLeader)
    }

    async fn index_here(&self, leader: Option<u64>) -> Result<u64, Error> {
        let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        match linearizer {
            Ok(linearizer) => Ok(linearizer.read_log_id().log_id().index),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(Error::NotLeader {
                    leader: to.leader_id.or(leader),
                })
            }
            Err(RaftError::APIError(_)) => Err(Error::NoLeader),
            Err(RaftError::Fatal(_)) => Err(Error::Stopped),
        }
    }
}

/// Other members need not wait until this one has applied what they ask for.
fn answer_index(batch: &mut Vec<Waiter>, index: &Result<u64, Error>) {
    let asked = |waiter: &mut Waiter| matches!(waiter, Waiter::Index(_));
    for waiter in batch.extract_if(.., asked) {
        if let Waiter::Index(sender) = waiter {
            let _ = sender.send(index.clone());
        }
    }
}

/// Those who only want the leader are told who that is.
fn refuse_followers(batch: &mut Vec<Waiter>, now: Leadership) {
    let error = match now.leader {
        Some(leader) => Error::NotLeader {
            leader: Some(leader),
        },
        None => Error::NoLeader,
    };
    batch.retain_mut(|waiter| {
        let empty = Waiter::Index(oneshot::channel().0);
        match std::mem::replace(waiter, empty) {
            Waiter::Index(sender) => drop(sender.send(Err(error.clone()))),
            Waiter::Leader(sender) => drop(sender.send(Err(error.clone()))),
            kept @ Waiter::Applied(_) => {
                *waiter = kept;
                return true;
            }
        }
        false
    });
}

fn timeout(now: Leadership) -> Error {
    match now.leader {
        Some(_) => Error::Timeout,
        None => Error::NoLeader,
    }
}
