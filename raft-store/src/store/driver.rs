//! Hands what waits to whoever leads: to this member's own Raft, or to the leader over the network.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::gather::Gathering;
use super::proposals::Proposals;
use crate::peer::Peers;
use crate::raft::{Proposal, StateMachine, TypeConfig, Verdict, submit_here, submit_there};
use crate::{Leadership, limits, threads};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

pub struct Driver {
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub proposals: Arc<Proposals>,
    pub leadership: watch::Receiver<Leadership>,
    /// This member is the only one that votes.
    pub sole_voter: Arc<AtomicBool>,
    pub request_timeout: Duration,
    /// A leader that refused is asked again after this, if it still is the leader.
    pub retry: Duration,
}

/// The leader of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    leader: u64,
    term: u64,
}

/// A batch on its way to a leader.
#[derive(Clone)]
struct Submission {
    sequence: u64,
    target: Target,
    proposal: Proposal,
    /// It may have arrived before: a refusal proves nothing any more.
    repeated: bool,
}

/// A batch and what its leader said.
type Submitted = BoxFuture<'static, (Submission, Verdict)>;

impl Driver {
    /// Submits what arrives until the store stops.
    pub async fn run(mut self) {
        let mut submitted = FuturesUnordered::new();
        let mut sequence = 0;
        // Who refused lately, and until when it is left alone.
        let mut refused: Option<(Target, Instant)> = None;
        let mut gathering = gathering();
        // For the callers' timeouts. Who comes later has a later one, so it stays when those for whom it was set are answered:
        // to set the clock anew for each costs a system call.
        let mut alarm = None;
        loop {
            let target = self.target();
            let pause = match refused {
                Some((by, until)) if Some(by) == target && until > Instant::now() => Some(until),
                _ => None,
            };
            let gathers = gathering
                .as_mut()
                .is_some_and(|gathering| gathering.waits(self.proposals.waiting()));
            if let (Some(target), None, false) = (target, pause, gathers) {
                while submitted.len() < limits::MAX_ENTRIES_IN_FLIGHT {
                    let Some(proposal) = self.proposals.take(sequence + 1, target.term) else {
                        break;
                    };
                    sequence += 1;
                    submitted.push(self.submit(Submission {
                        sequence,
                        target,
                        proposal,
                        repeated: false,
                    }));
                }
            }
            if alarm.is_none() {
                let first = self.proposals.next_timeout();
                alarm = first.map(|at| Box::pin(sleep_until(at)));
            }
            tokio::select! {
                biased;
                Some((submission, verdict)) = submitted.next() => match verdict {
                    Verdict::Accepted => {
                        if let Some(gathering) = &mut gathering
                            && submitted.is_empty()
                            && self.sole_voter.load(Ordering::SeqCst)
                        {
                            let answered = submission.proposal.batch().commands.len();
                            gathering.answered(answered, self.proposals.waiting());
                        }
                    }
                    Verdict::Refused if !submission.repeated => {
                        refused = Some((submission.target, Instant::now() + self.retry));
                        self.proposals.refused(submission.sequence);
                    }
                    // The same leader may be asked again: it takes a batch only once.
                    _ if self.may_repeat(&submission) => submitted.push(self.submit(Submission {
                        repeated: true,
                        ..submission
                    })),
                    _ => {
                        self.proposals.is_undecided(submission.sequence);
                    }
                },
                () = gathered(&gathering), if gathers => if let Some(gathering) = &mut gathering {
                    gathering.is_over(self.proposals.waiting());
                },
                () = self.proposals.arrived.notified(), if submitted.len() < limits::MAX_ENTRIES_IN_FLIGHT => {}
                changed = self.leadership.changed() => if changed.is_err() { return },
                () = until(pause), if pause.is_some() => {}
                () = rings(&mut alarm), if alarm.is_some() => {
                    alarm = None;
                    self.proposals.expire(Instant::now());
                }
            }
        }
    }

    fn target(&mut self) -> Option<Target> {
        let now = *self.leadership.borrow_and_update();
        Some(Target {
            leader: now.leader?,
            term: now.term,
        })
    }

    fn may_repeat(&mut self, submission: &Submission) -> bool {
        submission.target.leader != self.peers.me.member
            && self.target() == Some(submission.target)
            && self.proposals.is_undecided(submission.sequence)
    }

    fn submit(&self, submission: Submission) -> Submitted {
        let (raft, peers) = (self.raft.clone(), self.peers.clone());
        let (timeout, retry) = (self.request_timeout, self.retry);
        Box::pin(async move {
            if submission.repeated {
                tokio::time::sleep(retry).await;
            }
            let Target { leader, term } = submission.target;
            let verdict = if leader == peers.me.member {
                submit_here(&raft, term, submission.proposal.clone()).await
            } else {
                submit_there(&peers, leader, term, &submission.proposal, timeout).await
            };
            (submission, verdict)
        })
    }
}

/// In a simulation nothing takes less than a millisecond.
fn gathering() -> Option<Gathering> {
    if threads::simulated() {
        return None;
    }
    Gathering::new()
        .inspect_err(|error| tracing::warn!(%error, "there is no timer for gathering commands"))
        .ok()
}

async fn gathered(gathering: &Option<Gathering>) {
    match gathering {
        Some(gathering) => gathering.time().await,
        None => std::future::pending().await,
    }
}

async fn rings(alarm: &mut Option<Pin<Box<Sleep>>>) {
    if let Some(alarm) = alarm {
        alarm.await;
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
