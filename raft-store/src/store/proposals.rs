//! From many callers to few log entries, and back: commands that wait share the next entry.
//!
//! An answer comes from this member's own apply, found by the entry's origin; so it needs no further hop, and an
//! entry that comes back from a log written by an earlier run of the process answers nobody.
//!
//! A batch is handed to the leader of one term and to no other. If it cannot be known whether that leader put it into
//! its log, it waits: applied, it answers its callers; and once an entry of a later term was applied and it was not,
//! it never will be, and is handed to the next leader. So nothing is applied twice, and a change of leaders is not seen
//! by clients, unless it takes longer than a request may.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::command::{Batch, Command, Origin, Outcome, size_hint};
use crate::metrics::Metrics;
use crate::raft::Proposal;
use crate::{Error, limits};

pub type Answer = Result<Outcome, Error>;

/// Commands on their way, of one run of one member.
pub struct Proposals {
    member: u64,
    /// Random per run of the process.
    boot: u64,
    timeout: Duration,
    waiting: Mutex<Waiting>,
    pub(super) arrived: Notify,
    in_flight: Mutex<Flying>,
    metrics: Metrics,
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Queued>,
    /// Their sizes, together.
    bytes: usize,
    closed: bool,
}

impl Waiting {
    fn is_full(&self, bytes: usize) -> bool {
        self.commands.len() >= limits::MAX_QUEUED_COMMANDS
            || (self.bytes + bytes > limits::MAX_QUEUED_BYTES && !self.commands.is_empty())
    }

    fn pop(&mut self) -> Option<Queued> {
        let first = self.commands.pop_front()?;
        self.bytes -= size_hint(&first.command);
        Some(first)
    }
}

struct Queued {
    command: Command,
    caller: Caller,
}

struct Caller {
    answer: oneshot::Sender<Answer>,
    since: Instant,
    /// The command means nothing under another leader than that of this term.
    only_term: Option<u64>,
}

#[derive(Default)]
struct Flying {
    batches: VecDeque<InFlight>,
    /// Term of the newest applied entry.
    applied_term: u64,
}

struct InFlight {
    sequence: u64,
    /// Of the leader that it was handed to.
    term: u64,
    proposal: Proposal,
    callers: Vec<Caller>,
}

impl Proposals {
    pub fn new(member: u64, boot: u64, timeout: Duration, metrics: Metrics) -> Self {
        Self {
            member,
            boot,
            timeout,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            in_flight: Mutex::default(),
            metrics,
        }
    }

    /// Proposes a command and waits until it was applied here.
    pub async fn propose(&self, command: Command) -> Answer {
        self.propose_in(command, None).await
    }

    /// Likewise, but the command is void once another term has begun.
    pub async fn propose_in(&self, command: Command, only_term: Option<u64>) -> Answer {
        let (sender, answer) = oneshot::channel();
        let bytes = size_hint(&command);
        {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(Error::Stopped);
            }
            if waiting.is_full(bytes) {
                self.metrics.proposals_refused.inc();
                return Err(Error::TooManyRequests);
            }
            let caller = Caller {
                answer: sender,
                since: Instant::now(),
                only_term,
            };
            waiting.commands.push_back(Queued { command, caller });
            waiting.bytes += bytes;
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
        waiting.bytes = 0;
        for queued in waiting.commands.drain(..) {
            let _ = queued.caller.answer.send(Err(Error::Stopped));
        }
        drop(waiting);
        self.in_flight.lock().batches.clear();
    }

    /// Takes what waits for the leader of `term`, up to the limits of one entry, as the batch of that number.
    pub(super) fn take(&self, sequence: u64, term: u64) -> Option<Proposal> {
        let mut waiting = self.waiting.lock();
        let (mut commands, mut callers) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while commands.len() < limits::MAX_COMMANDS_PER_ENTRY
            && let Some(first) = waiting.commands.front()
        {
            let size = size_hint(&first.command);
            if bytes + size > limits::MAX_BYTES_PER_ENTRY && !commands.is_empty() {
                break;
            }
            let Some(Queued { command, caller }) = waiting.pop() else {
                break;
            };
            if caller.only_term.is_some_and(|only| only != term) {
                let _ = caller.answer.send(Err(Error::LeaderChanged));
            } else if !caller.answer.is_closed() {
                bytes += size;
                commands.push(command);
                callers.push(caller);
            }
        }
        if commands.is_empty() {
            return None;
        }
        self.metrics
            .commands_per_entry
            .observe(commands.len() as f64);
        let origin = Origin {
            member: self.member,
            boot: self.boot,
            sequence,
        };
        let proposal = Proposal::from(Batch { origin, commands });
        // Before the queue is let go of: whoever closes it finds the batch in one place or the other.
        self.in_flight.lock().batches.push_back(InFlight {
            sequence,
            term,
            proposal: proposal.clone(),
            callers,
        });
        Some(proposal)
    }

    /// Commands that no batch has taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().commands.len()
    }

    /// What no batch has taken yet: commands, and their bytes.
    pub fn queued(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        (waiting.commands.len(), waiting.bytes)
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
        if let Some(first) = batch.callers.first() {
            self.metrics.note_command(first.since.elapsed());
        }
        for (caller, answer) in batch.callers.into_iter().zip(answers) {
            // A caller that gave up does not take its answer.
            let _ = caller.answer.send(answer);
        }
    }

    /// Everything up to an entry of `term` was applied: what was handed to earlier leaders and is not among it is in
    /// no log that counts.
    pub fn passed(&self, term: u64) {
        let mut in_flight = self.in_flight.lock();
        if in_flight.applied_term >= term {
            return;
        }
        in_flight.applied_term = term;
        let (lost, kept) = std::mem::take(&mut in_flight.batches)
            .into_iter()
            .partition(|batch: &InFlight| batch.term < term);
        in_flight.batches = kept;
        drop(in_flight);
        self.requeue(lost);
    }

    /// The state was replaced by another member's: whether what is under way is in it cannot be told.
    pub fn outcome_unknown(&self) {
        let batches = std::mem::take(&mut self.in_flight.lock().batches);
        for caller in batches.into_iter().flat_map(|batch| batch.callers) {
            let _ = caller.answer.send(Err(Error::TimeoutLeaderFailed));
        }
    }

    /// The batch is in no log and never will be: its commands wait again.
    pub(super) fn refused(&self, sequence: u64) {
        let batch = self.remove(sequence);
        self.requeue(batch.into_iter().collect());
    }

    /// Whether it is still open what became of the batch. One that earlier entries decided over waits again.
    pub(super) fn is_undecided(&self, sequence: u64) -> bool {
        let in_flight = self.in_flight.lock();
        let mut batches = in_flight.batches.iter();
        let Some(batch) = batches.find(|batch| batch.sequence == sequence) else {
            return false;
        };
        let lost = batch.term < in_flight.applied_term;
        drop(in_flight);
        if lost {
            self.refused(sequence);
        }
        !lost
    }

    /// Puts commands back to the front, in their order, unless nobody waits for them any more.
    fn requeue(&self, lost: VecDeque<InFlight>) {
        if lost.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        for batch in lost.into_iter().rev() {
            let commands = batch.proposal.batch().commands.iter().cloned();
            let queued = commands.zip(batch.callers);
            for (command, caller) in queued.collect::<Vec<_>>().into_iter().rev() {
                if waiting.closed {
                    let _ = caller.answer.send(Err(Error::Stopped));
                } else if !caller.answer.is_closed() {
                    waiting.bytes += size_hint(&command);
                    waiting.commands.push_front(Queued { command, caller });
                }
            }
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Commands that wait or are under way.
    pub fn pending(&self) -> usize {
        let waiting = self.waiting.lock().commands.len();
        let in_flight = self.in_flight.lock();
        let callers = in_flight.batches.iter().map(|batch| batch.callers.len());
        waiting + callers.sum::<usize>()
    }

    fn remove(&self, sequence: u64) -> Option<InFlight> {
        let batches = &mut self.in_flight.lock().batches;
        let at = batches
            .iter()
            .position(|batch| batch.sequence == sequence)?;
        batches.remove(at)
    }

    /// When the caller that has waited longest gives up.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.lock();
        let first = waiting.commands.front().map(|queued| queued.caller.since);
        let in_flight = self.in_flight.lock();
        let batches = in_flight.batches.iter();
        let oldest = batches.filter_map(|batch| batch.callers.first().map(|caller| caller.since));
        let since = oldest.chain(first).min()?;
        Some(since + self.timeout)
    }

    /// Tells callers whose time is over that it is.
    pub(super) fn expire(&self, now: Instant) {
        let over = |caller: &Caller| caller.since + self.timeout <= now;
        let mut waiting = self.waiting.lock();
        while waiting
            .commands
            .front()
            .is_some_and(|queued| over(&queued.caller))
        {
            if let Some(queued) = waiting.pop() {
                self.metrics.proposals_failed.inc();
                let _ = queued.caller.answer.send(Err(Error::Timeout));
            }
        }
        drop(waiting);
        let mut in_flight = self.in_flight.lock();
        in_flight.batches.retain_mut(|batch| {
            if !batch.callers.first().is_some_and(over) {
                return true;
            }
            // Its callers came at about the same time. It may still take effect.
            self.metrics
                .proposals_failed
                .inc_by(batch.callers.len() as u64);
            for caller in batch.callers.drain(..) {
                let _ = caller.answer.send(Err(Error::TimeoutLeaderFailed));
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeaseRevokeResponse;

    fn proposals() -> std::sync::Arc<Proposals> {
        let timeout = Duration::from_millis(100);
        std::sync::Arc::new(Proposals::new(1, 2, timeout, Metrics::default()))
    }

    fn propose(
        proposals: &std::sync::Arc<Proposals>,
        id: i64,
        only_term: Option<u64>,
    ) -> tokio::task::JoinHandle<Answer> {
        let proposals = proposals.clone();
        tokio::spawn(async move {
            let command = Command::LeaseRevoke { id };
            proposals.propose_in(command, only_term).await
        })
    }

    async fn take(proposals: &Proposals, sequence: u64, term: u64) -> Vec<Command> {
        proposals.arrived.notified().await;
        let taken = proposals.take(sequence, term);
        taken.map_or(Vec::new(), |taken| taken.batch().commands.clone())
    }

    fn done() -> Answer {
        Ok(Outcome::LeaseRevoke(LeaseRevokeResponse { revision: 9 }))
    }

    #[tokio::test]
    async fn a_batch_that_a_later_term_passed_by_is_proposed_again() {
        let proposals = proposals();
        let caller = propose(&proposals, 7, None);
        let origin = |sequence| Origin {
            member: 1,
            boot: 2,
            sequence,
        };
        assert_eq!(take(&proposals, 1, 5).await.len(), 1);
        proposals.passed(5);
        assert!(proposals.is_undecided(1), "its leader's term goes on");
        proposals.passed(6);
        assert!(!proposals.is_undecided(1));
        assert_eq!(
            take(&proposals, 2, 6).await,
            [Command::LeaseRevoke { id: 7 }]
        );
        proposals.complete(origin(2), vec![done()]);
        assert_eq!(caller.await.unwrap(), done());
    }

    #[tokio::test]
    async fn commands_wait_only_up_to_a_number_of_bytes() {
        let proposals = proposals();
        let large = |bytes: usize| {
            let request = crate::PutRequest {
                value: vec![0; bytes].into(),
                ..Default::default()
            };
            let proposals = proposals.clone();
            tokio::spawn(async move { proposals.propose(Command::Put(request)).await })
        };
        let first = large(limits::MAX_QUEUED_BYTES + 1);
        proposals.arrived.notified().await;
        assert_eq!(proposals.queued().0, 1, "a single one is always taken in");
        assert_eq!(large(0).await.unwrap(), Err(Error::TooManyRequests));
        assert!(proposals.take(1, 5).is_some());
        assert_eq!(proposals.queued(), (0, 0));
        let half = large(limits::MAX_QUEUED_BYTES / 2);
        proposals.arrived.notified().await;
        let refused = large(limits::MAX_QUEUED_BYTES / 2 + 1).await;
        assert_eq!(refused.unwrap(), Err(Error::TooManyRequests));
        // What is under way and comes back is counted again, and let go of when its time is over.
        proposals.refused(1);
        assert!(proposals.queued().1 > limits::MAX_QUEUED_BYTES);
        tokio::time::sleep_until(proposals.next_timeout().unwrap()).await;
        proposals.expire(Instant::now() + proposals.timeout);
        assert_eq!(proposals.queued(), (0, 0));
        assert_eq!(first.await.unwrap(), Err(Error::Timeout));
        assert_eq!(half.await.unwrap(), Err(Error::Timeout));
    }

    #[tokio::test]
    async fn what_was_meant_for_one_leader_reaches_no_other() {
        let proposals = proposals();
        let caller = propose(&proposals, 7, Some(5));
        assert!(take(&proposals, 1, 6).await.is_empty());
        assert_eq!(caller.await.unwrap(), Err(Error::LeaderChanged));
    }

    #[tokio::test]
    async fn callers_learn_that_their_time_is_over() {
        let proposals = proposals();
        let flying = propose(&proposals, 7, None);
        assert_eq!(take(&proposals, 1, 5).await.len(), 1);
        let queued = propose(&proposals, 8, None);
        proposals.arrived.notified().await;
        tokio::time::sleep_until(proposals.next_timeout().unwrap()).await;
        proposals.expire(Instant::now());
        assert_eq!(flying.await.unwrap(), Err(Error::TimeoutLeaderFailed));
        assert_eq!(queued.await.unwrap(), Err(Error::Timeout));
        assert_eq!(proposals.next_timeout(), None);
        assert!(
            !proposals.is_undecided(1),
            "what is applied now answers nobody"
        );
    }
}
