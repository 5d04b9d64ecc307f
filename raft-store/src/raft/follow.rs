//! Follows Raft: who leads, who the members are.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use tokio::sync::watch;
use tokio::time::Instant;

use super::state_machine::StateMachine;
use super::types::TypeConfig;
use crate::peer::{Peers, Refusal};
use crate::{Leadership, OpenError};

type Raft = openraft::Raft<TypeConfig, StateMachine>;
type ServerMetrics = openraft::metrics::RaftServerMetrics<TypeConfig>;

/// What apply tells.
pub struct Followed {
    /// Term of the newest applied entry.
    pub term: watch::Receiver<u64>,
    /// Its index.
    pub index: watch::Receiver<u64>,
    /// Members that were removed for good.
    pub removed: watch::Receiver<BTreeSet<u64>>,
}

impl Followed {
    /// Tells the peers who the members are, from the log: the metrics do not know it yet when Raft has just started.
    pub async fn set_members(&self, raft: &Raft, peers: &Peers) -> Result<(), OpenError> {
        let members = raft
            .with_raft_state(|state| state.membership_state.effective().membership().clone())
            .await
            .map_err(|error| OpenError::Raft(error.to_string()))?;
        let removed = self.removed.borrow().clone();
        peers.set_members(&members, removed);
        Ok(())
    }
}

fn set_members(raft: &Raft, peers: &Peers, removed: &watch::Receiver<BTreeSet<u64>>) {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    if metrics
        .membership_config
        .membership()
        .nodes()
        .next()
        .is_none()
    {
        return;
    }
    let removed = removed.borrow().clone();
    if removed.contains(&peers.me.member) {
        peers.exclude(Refusal::Removed);
    }
    peers.set_members(metrics.membership_config.membership(), removed);
}

/// Keeps the peers' addresses as the members say, from the moment a change is in the log.
pub async fn follow_members(
    raft: &Raft,
    peers: &Peers,
    mut removed: watch::Receiver<BTreeSet<u64>>,
) {
    let mut metrics = raft.server_metrics();
    let mut known = None;
    loop {
        let now = metrics.borrow_and_update().membership_config.clone();
        let more_removed = removed.has_changed().unwrap_or(true);
        removed.borrow_and_update();
        if known.as_ref() != Some(&now) || more_removed {
            set_members(raft, peers, &removed);
            known = Some(now);
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            changed = removed.changed() => match changed {
                Ok(()) => known = None,
                Err(_) => return,
            },
        }
    }
}

/// Whether a quorum has answered the leader, or the leader was heard of, of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    /// At that time it is to be looked at again, if there are others who vote.
    Until(Option<Instant>),
    Lost,
}

/// What other members a leader has.
struct Others {
    /// Some vote.
    vote: bool,
    /// It is this member that leads, or says so.
    leads: bool,
}

fn look(metrics: &ServerMetrics, applied_term: &mut watch::Receiver<u64>) -> (Leadership, Others) {
    let members = metrics.membership_config.membership();
    let term = metrics.vote.leader_id.term;
    let caught_up = *applied_term.borrow_and_update() == term;
    let is_leader = metrics.state == ServerState::Leader;
    let now = Leadership {
        term,
        leader: metrics.current_leader,
        is_leader: is_leader && caught_up,
    };
    let others = Others {
        vote: is_leader && members.voter_ids().count() > 1,
        leads: is_leader,
    };
    (now, others)
}

/// As leader of others: whether a quorum answered within `limit`, which begins no earlier than `since`.
fn contact(raft: &Raft, since: Instant, limit: Duration) -> Contact {
    let metrics = raft.data_metrics();
    let acked = metrics.borrow_watched().last_quorum_acked;
    let heard = acked.map_or(since, |acked| since.max(Instant::now() - acked.elapsed()));
    since_heard(heard, limit)
}

fn since_heard(heard: Instant, limit: Duration) -> Contact {
    match heard + limit {
        until if until > Instant::now() => Contact::Until(Some(until)),
        _ => Contact::Lost,
    }
}

/// Tells who leads. This member counts as leader once it has applied an entry of its own term. One that no quorum has
/// answered for `limit` knows of no leader, for another may lead by now; and neither does one that has not heard of its
/// leader for so long: Raft itself names that one until there is another.
pub async fn follow_leadership(
    raft: &Raft,
    applied_term: &mut watch::Receiver<u64>,
    mut heard: watch::Receiver<Instant>,
    leadership: &watch::Sender<Leadership>,
    leads: &AtomicBool,
    limit: Duration,
) {
    let mut metrics = raft.server_metrics();
    let mut answers = raft.data_metrics();
    // Who leads in which term, whether that is this member, and since when.
    let mut led = ((0, None, false), Instant::now());
    loop {
        let (mut now, others) = look(&metrics.borrow_watched(), applied_term);
        let by = (now.term, now.leader, others.vote);
        if led.0 != by {
            led = (by, Instant::now());
        }
        let contact_is = if others.vote {
            answers.borrow_and_update();
            contact(raft, led.1, limit)
        } else if now.leader.is_some() && !others.leads {
            since_heard(led.1.max(*heard.borrow_and_update()), limit)
        } else {
            Contact::Until(None)
        };
        if contact_is == Contact::Lost {
            now.leader = None;
        }
        leads.store(now.is_leader, Ordering::SeqCst);
        let before = *leadership.borrow();
        let changed = leadership.send_if_modified(|current| std::mem::replace(current, now) != now);
        if changed && now.is_leader {
            tracing::info!(term = now.term, "this member leads");
        } else if changed && before.leader != now.leader {
            let leader = now.leader.map(|leader| format!("{leader:x}"));
            tracing::info!(term = now.term, leader, "the leader changed");
        }
        let look = match contact_is {
            Contact::Until(at) => at,
            Contact::Lost => None,
        };
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            changed = applied_term.changed() => if changed.is_err() { return },
            changed = answers.changed(), if contact_is == Contact::Lost => if changed.is_err() { return },
            changed = heard.changed(), if contact_is == Contact::Lost => if changed.is_err() { return },
            () = until(look), if look.is_some() => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
