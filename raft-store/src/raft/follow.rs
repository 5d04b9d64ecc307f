//! Follows Raft: who leads, who the members are.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use super::state_machine::StateMachine;
use super::types::TypeConfig;
use crate::peer::{Peers, Refusal};
use crate::{Leadership, OpenError};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

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

/// Tells who leads. This member counts as leader once it has applied an entry of its own term.
pub async fn follow_leadership(
    raft: &Raft,
    applied_term: &mut watch::Receiver<u64>,
    leadership: &watch::Sender<Leadership>,
    leads: &AtomicBool,
) {
    let mut metrics = raft.server_metrics();
    let mut ticks = true;
    loop {
        let (now, alone) = {
            let metrics = metrics.borrow_watched();
            let members = metrics.membership_config.membership();
            let term = metrics.vote.leader_id.term;
            let caught_up = *applied_term.borrow_and_update() == term;
            let now = Leadership {
                term,
                leader: metrics.current_leader,
                is_leader: metrics.state == ServerState::Leader && caught_up,
            };
            (now, now.is_leader && members.nodes().count() == 1)
        };
        if ticks == alone {
            // Elections and heartbeats are all that Raft's clock is for: a leader without others needs neither, and so
            // rests when nothing is to be done.
            ticks = !alone;
            raft.runtime_config().tick(ticks);
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
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            changed = applied_term.changed() => if changed.is_err() { return },
        }
    }
}
