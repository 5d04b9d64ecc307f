//! From many callers to few log entries, and back: commands that wait share the next entry.
//!
//! An answer comes from this member's own apply, found by the entry's origin; so it needs no further hop, and an
//! entry that comes back from a log written by an earlier run of the process answers nobody.

use std::collections::VecDeque;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::errors::{ClientWriteError, RaftError};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::Error;
use crate::command::{Batch, Command, Origin, Outcome, size_hint};
use crate::limits;
use crate::metrics::Metrics;
use crate::raft::{Proposal, StateMachine, TypeConfig};

type Answer = Result<Outcome, Error>;
type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Commands on their way, of one run of one member.
pub struct Proposals {
    member: u64,
    /// Random per run of the process.
    boot: u64,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    in_flight: Mutex<VecDeque<InFlight>>,
    metrics: Metrics,
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<(Command, oneshot::Sender<Answer>)>,
    closed: bool,
}

struct InFlight {
    sequence: u64,
    callers: Vec<oneshot::Sender<Answer>>,
}

impl Proposals {
    pub fn new(member: u64, boot: u64, metrics: Metrics) -> Self {
        Self {
            member,
            boot,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            in_flight: Mutex::default(),
            metrics,
        }
    }

    /// Proposes a command and waits until it was applied here.
    pub async fn propose(&self, command: Command) -> Answer {
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(Error::Stopped);
            }
            if waiting.commands.len() >= limits::MAX_QUEUED_COMMANDS {
                self.metrics.proposals_refused.inc();
                return Err(Error::TooManyRequests);
            }
            waiting.commands.push_back((command, sender));
        }
        self.arrived.notify_one();
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::OutcomeUnknown(
                "the store stopped meanwhile".to_owned(),
            )),
        }
    }

    /// Refuses further proposals; those that wait end as stopped.
    pub fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        for (_, caller) in waiting.commands.drain(..) {
            let _ = caller.send(Err(Error::Stopped));
        }
        drop(waiting);
        self.in_flight.lock().clear();
    }

    /// Takes what waits, up to the limits of one entry.
    fn take(&self) -> (Vec<Command>, Vec<oneshot::Sender<Answer>>) {
        let mut waiting = self.waiting.lock();
        let count = waiting.commands.len().min(limits::MAX_COMMANDS_PER_ENTRY);
        let (mut commands, mut callers) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut bytes = 0;
        while commands.len() < count
            && let Some((command, _)) = waiting.commands.front()
        {
            bytes += size_hint(command);
            if bytes > limits::MAX_BYTES_PER_ENTRY && !commands.is_empty() {
                break;
            }
            let (command, caller) = waiting
                .commands
                .pop_front()
                .expect("there is a first command");
            commands.push(command);
            callers.push(caller);
        }
        (commands, callers)
    }

    /// Answers the callers of an applied batch, if this run of this member proposed it.
    pub fn complete(&self, origin: Origin, answers: Vec<Answer>) {
        if (origin.member, origin.boot) != (self.member, self.boot) {
            return;
        }
        let Some(batch) = self.remove(origin.sequence) else {
            return;
        };
        self.metrics.proposals_applied.inc_by(answers.len() as u64);
        for (caller, answer) in batch.callers.into_iter().zip(answers) {
            // A caller that gave up does not take its answer.
            let _ = caller.send(answer);
        }
    }

    fn remove(&self, sequence: u64) -> Option<InFlight> {
        let mut in_flight = self.in_flight.lock();
        let at = in_flight
            .iter()
            .position(|batch| batch.sequence == sequence)?;
        in_flight.remove(at)
    }

    /// The state was replaced by another member's: whether what is under way is in it cannot be told.
    pub fn outcome_unknown(&self) {
        let sequences: Vec<u64> = self.in_flight.lock().iter().map(|b| b.sequence).collect();
        let error = Error::OutcomeUnknown("this member took over another's state".to_owned());
        for sequence in sequences {
            self.fail(sequence, &error);
        }
    }

    fn fail(&self, sequence: u64, error: &Error) {
        let Some(batch) = self.remove(sequence) else {
            return;
        };
        self.metrics
            .proposals_failed
            .inc_by(batch.callers.len() as u64);
        for caller in batch.callers {
            let _ = caller.send(Err(error.clone()));
        }
    }

    /// Submits what arrives to Raft until the store stops.
    pub async fn drive(&self, raft: Raft) {
        let mut submitted = FuturesUnordered::new();
        let mut sequence = 0;
        loop {
            while submitted.len() < limits::MAX_ENTRIES_IN_FLIGHT {
                let (commands, callers) = self.take();
                if commands.is_empty() {
                    break;
                }
                sequence += 1;
                self.metrics
                    .commands_per_entry
                    .observe(commands.len() as f64);
                self.in_flight
                    .lock()
                    .push_back(InFlight { sequence, callers });
                let origin = Origin {
                    member: self.member,
                    boot: self.boot,
                    sequence,
                };
                submitted.push(self.submit(&raft, Batch { origin, commands }));
            }
            tokio::select! {
                biased;
                Some(()) = submitted.next() => {}
                () = self.arrived.notified(), if submitted.len() < limits::MAX_ENTRIES_IN_FLIGHT => {}
            }
        }
    }

    async fn submit(&self, raft: &Raft, batch: Batch) {
        let sequence = batch.origin.sequence;
        let Err(error) = raft.client_write(Proposal::from(batch)).await else {
            return;
        };
        let error = match error {
            // Refused before it reached the log.
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => match to.leader_id {
                Some(leader) => Error::NotLeader {
                    leader: Some(leader),
                },
                None => Error::NoLeader,
            },
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
                Error::OutcomeUnknown("the leader changed meanwhile".to_owned())
            }
            error => Error::OutcomeUnknown(error.to_string()),
        };
        self.fail(sequence, &error);
    }
}
