//! What a member does by itself: it tells its name, promotes who has caught up, and keeps its log short.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{Notify, watch};

use super::membership::{Change, Step, next_promotion};
use super::reconfigure::{Reconfigure, ask_leader};
use super::state_machine::StateMachine;
use super::types::TypeConfig;
use crate::config::Config;
use crate::peer::{Kind, Peers};
use crate::{Error, Leadership};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Lets the state be flushed and the log purged whenever the log has grown enough. `kept` says up to which entry the
/// log may go, besides what the flushed state covers.
pub async fn checkpoint(raft: &Raft, due: &Notify, kept: &(dyn Fn() -> Option<u64> + Send + Sync)) {
    let mut metrics = raft.data_metrics();
    loop {
        due.notified().await;
        let before = metrics.borrow_and_update().snapshot;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        // One at a time. It may find that nothing is to be done: then the next one that is due goes on.
        let built = async {
            while metrics.borrow_and_update().snapshot == before {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        let durable = tokio::select! {
            built = built => {
                if !built {
                    return;
                }
                raft.data_metrics().borrow_watched().snapshot
            }
            () = due.notified() => {
                due.notify_one();
                raft.data_metrics().borrow_watched().snapshot
            }
        };
        let (Some(durable), Some(upto)) = (durable, kept()) else {
            continue;
        };
        if raft
            .trigger()
            .purge_log(upto.min(durable.index))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Tells the others this member's name and client URLs, and how its data is told from other data under its id.
pub async fn publish(
    raft: &Raft,
    peers: &Arc<Peers>,
    reconfigure: &Reconfigure,
    config: &Config,
    mut leadership: watch::Receiver<Leadership>,
    published: watch::Sender<bool>,
) {
    let moved_to = config.peer_urls_may_change.then(|| {
        let mut urls = config.peer_urls.clone();
        urls.sort();
        urls
    });
    let change = Change::Publish {
        id: peers.me.member,
        name: config.name.clone(),
        client_urls: config.client_urls.clone(),
        incarnation: peers.me.incarnation,
        peer_urls: moved_to.clone(),
    };
    let mut metrics = raft.server_metrics();
    loop {
        let known = {
            let metrics = metrics.borrow_and_update();
            let members = metrics.committed_membership_config.membership();
            members.get_node(&peers.me.member).cloned()
        };
        if let Some(info) = known {
            let moved = moved_to
                .as_ref()
                .is_some_and(|urls| *urls != info.peer_urls);
            let told = info.name == config.name
                && !moved
                && info.client_urls == config.client_urls
                && info.incarnation == peers.me.incarnation;
            if told {
                published.send_replace(true);
                return pending().await;
            }
            let now = *leadership.borrow_and_update();
            if info.incarnation != 0 && info.incarnation != peers.me.incarnation {
                peers.exclude(crate::peer::Refusal::CallerWiped);
            }
            if now.leader.is_some() {
                let timeout = config.request_timeout();
                match ask_leader(raft, peers, reconfigure, now, &change, timeout).await {
                    Ok(_) => {}
                    Err(Error::Stopped) => return,
                    Err(error) => tracing::debug!(%error, "this member is not made known yet"),
                }
                tokio::select! {
                    () = tokio::time::sleep(config.heartbeat) => {}
                    changed = leadership.changed() => if changed.is_err() { return },
                }
                continue;
            }
            if moved {
                // Nobody finds this member where it is now, so it hears of no leader: it asks all whom it knows.
                ask_everyone(raft, peers, config, &change).await;
                tokio::select! {
                    () = tokio::time::sleep(config.election_timeout) => {}
                    changed = leadership.changed() => if changed.is_err() { return },
                }
                continue;
            }
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

/// Asks every other member for a change: whichever leads carries it out, the others refuse.
async fn ask_everyone(raft: &Raft, peers: &Arc<Peers>, config: &Config, change: &Change) {
    let members: Vec<u64> = {
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.membership().nodes();
        nodes.map(|(id, _)| *id).collect()
    };
    let body = serde_json::to_vec(change).expect("a change is JSON");
    let others = members.into_iter().filter(|id| *id != peers.me.member);
    let asked = others.map(|id| {
        let (link, body) = (peers.link(id), body.clone());
        async move {
            let answer = link
                .call(Kind::ChangeMembers, body.into(), config.election_timeout)
                .await;
            if let Err(error) = answer {
                tracing::debug!(member = format_args!("{id:x}"), %error, "it does not take the new address");
            }
        }
    });
    futures::future::join_all(asked).await;
}

/// As leader: ends a change that a former leader left half done, and promotes new voters that have caught up.
pub async fn take_care(raft: &Raft, reconfigure: &Reconfigure, pace: Duration) {
    let mut members = raft.server_metrics();
    loop {
        let due = {
            let now = members.borrow_and_update();
            let membership = now.membership_config.membership();
            let joint = membership.get_joint_config().len() > 1;
            let waits = membership.learner_ids().any(|id| {
                membership
                    .get_node(&id)
                    .is_some_and(|info| info.becomes_voter)
            });
            now.state == ServerState::Leader && (joint || waits)
        };
        if !due {
            if members.changed().await.is_err() {
                return;
            }
            continue;
        }
        if let Err(error) = attend(raft, reconfigure).await {
            tracing::debug!(%error, "the members could not be changed now");
        }
        // A follower's progress is told with every batch: to look now and then is enough.
        tokio::time::sleep(pace).await;
    }
}

async fn attend(raft: &Raft, reconfigure: &Reconfigure) -> Result<(), Error> {
    let _turn = reconfigure.turn().await;
    reconfigure.end_joint(raft).await?;
    let (membership, facts) = reconfigure.look(raft)?;
    if let Some(id) = next_promotion(&membership, &facts) {
        tracing::info!(
            member = format_args!("{id:x}"),
            "a new member has caught up: it becomes a voter"
        );
        reconfigure
            .step(raft, Step::AddVoterIds([id].into()))
            .await?;
    }
    Ok(())
}
