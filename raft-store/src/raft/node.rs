//! One Raft member in its own thread: openraft, the proposals, the leases and the reads share one small runtime.
//!
//! A thread of its own keeps heartbeats on time whatever else the process does, and makes the hops between these
//! tasks cheap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use openraft::async_runtime::WatchReceiver;
use openraft::{ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::membership::Change;
use super::network::Network;
use super::reconfigure::Reconfigure;
use super::state_machine::StateMachine;
use super::types::{MemberInfo, TypeConfig};
use crate::config::{Config, OpenError};
use crate::log::LogStorage;
use crate::store::lessor::Lessor;
use crate::store::proposals::Proposals;
use crate::store::read_index;
use crate::{Error, Leadership, Member, limits};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Everything a member is made of.
pub struct Parts {
    pub config: Config,
    pub member: u64,
    pub log: LogStorage,
    pub state_machine: StateMachine,
    pub proposals: Arc<Proposals>,
    pub lessor: Arc<Lessor>,
    pub reads: mpsc::Receiver<oneshot::Sender<Result<(), Error>>>,
    /// Term of the newest applied entry.
    pub applied_term: watch::Receiver<u64>,
    pub leadership: watch::Sender<Leadership>,
    pub leads: Arc<AtomicBool>,
    pub sole_voter: Arc<AtomicBool>,
    pub checkpoint_due: Arc<Notify>,
}

/// A running member.
pub struct Node {
    pub raft: Raft,
    reconfigure: Reconfigure,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Node {
    /// Starts the member's thread and returns once Raft runs (not yet led).
    pub async fn start(parts: Parts) -> Result<Self, OpenError> {
        let reconfigure = Reconfigure::new(parts.member, parts.config.election_timeout);
        let (stop, stopped) = oneshot::channel();
        let (started, running) = oneshot::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(run(parts, started, stopped)),
                Err(error) => drop(started.send(Err(OpenError::Raft(error.to_string())))),
            }
        };
        let thread = std::thread::Builder::new()
            .name("raft".to_owned())
            .spawn(body);
        let thread = thread.map_err(|error| OpenError::Raft(error.to_string()))?;
        let raft = running
            .await
            .map_err(|_| OpenError::Raft("its thread has ended".to_owned()))??;
        Ok(Self {
            raft,
            reconfigure,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Changes the cluster's members; those after it.
    pub async fn change_members(&self, change: &Change) -> Result<Vec<Member>, Error> {
        self.reconfigure.change(&self.raft, change).await
    }

    /// Stops the member and waits until its thread has ended.
    pub async fn stop(&self) {
        self.signal_stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the Raft thread ended by a panic");
            }
        }
    }

    fn signal_stop(&self) {
        if let Some(stop) = self.stop.lock().take() {
            let _ = stop.send(());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal_stop();
    }
}

async fn run(
    parts: Parts,
    started: oneshot::Sender<Result<Raft, OpenError>>,
    stopped: oneshot::Receiver<()>,
) {
    let info = MemberInfo {
        name: parts.config.name.clone(),
        peer_urls: parts.config.peer_urls.clone(),
        client_urls: parts.config.client_urls.clone(),
        ..Default::default()
    };
    let raft = match start_raft(&parts.config, parts.member, parts.log, parts.state_machine).await {
        Ok(raft) => raft,
        Err(error) => return drop(started.send(Err(error))),
    };
    if let Err(error) = take_lead(&raft, parts.member, info, &parts.sole_voter).await {
        return drop(started.send(Err(error)));
    }
    if started.send(Ok(raft.clone())).is_err() {
        return;
    }
    let leadership = parts.leadership.subscribe();
    let proposals = parts.proposals.clone();
    tokio::select! {
        _ = stopped => {}
        () = parts.proposals.drive(raft.clone()) => {}
        () = parts.lessor.run(leadership, proposals) => {}
        () = read_index::rounds(raft.clone(), parts.reads) => {}
        () = checkpoint(&raft, &parts.checkpoint_due) => {}
        () = follow_leadership(&raft, parts.applied_term, &parts.leadership, &parts.leads) => {}
    }
    parts.leads.store(false, Ordering::SeqCst);
    parts.proposals.close();
    if let Err(error) = raft.shutdown().await {
        tracing::error!(%error, "Raft did not end cleanly");
    }
}

async fn start_raft(
    config: &Config,
    member: u64,
    log: LogStorage,
    state_machine: StateMachine,
) -> Result<Raft, OpenError> {
    let failed = |error: String| OpenError::Raft(error);
    let raft_config = openraft::Config {
        cluster_name: "store".to_owned(),
        heartbeat_interval: config.heartbeat.as_millis() as u64,
        election_timeout_min: config.election_timeout.as_millis() as u64,
        election_timeout_max: config.election_timeout.as_millis() as u64 * 3 / 2,
        // Checkpoints follow the log's size, not its number of entries.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: limits::LOG_ENTRIES_KEPT,
        enable_pre_vote: Some(true),
        // Proposals come in batches already.
        api_batch_capacity: 64,
        api_channel_size: Some(1024),
        notification_channel_size: Some(1024),
        // A restarted leader stands for election again: its new term proves what was committed.
        enable_leader_restore: Some(false),
        ..Default::default()
    };
    let raft_config = Arc::new(
        raft_config
            .validate()
            .map_err(|error| failed(error.to_string()))?,
    );
    let raft = Raft::new(member, raft_config, Network, log, state_machine).await;
    raft.map_err(|error| failed(error.to_string()))
}

/// A new member founds its cluster; the only voter of an old one need not wait for an election timeout.
async fn take_lead(
    raft: &Raft,
    member: u64,
    info: MemberInfo,
    sole_voter: &AtomicBool,
) -> Result<(), OpenError> {
    let failed = |error: String| OpenError::Raft(error);
    let initialized = raft
        .is_initialized()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !initialized {
        sole_voter.store(true, Ordering::SeqCst);
        let members = BTreeMap::from([(member, info)]);
        return raft
            .initialize(members)
            .await
            .map_err(|error| failed(error.to_string()));
    }
    let voters = raft.with_raft_state(|state| {
        state
            .membership_state
            .effective()
            .voter_ids()
            .collect::<Vec<_>>()
    });
    let alone = voters.await.map_err(|error| failed(error.to_string()))? == [member];
    sole_voter.store(alone, Ordering::SeqCst);
    if alone {
        raft.trigger()
            .elect(false)
            .await
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Lets the state be flushed and the log purged whenever the log has grown enough.
async fn checkpoint(raft: &Raft, due: &Notify) {
    loop {
        due.notified().await;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}

/// Tells who leads. This member counts as leader once it has applied an entry of its own term.
async fn follow_leadership(
    raft: &Raft,
    mut applied_term: watch::Receiver<u64>,
    leadership: &watch::Sender<Leadership>,
    leads: &AtomicBool,
) {
    let mut metrics = raft.server_metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            let term = metrics.vote.leader_id.term;
            let caught_up = *applied_term.borrow_and_update() == term;
            Leadership {
                term,
                leader: metrics.current_leader,
                is_leader: metrics.state == ServerState::Leader && caught_up,
            }
        };
        leads.store(now.is_leader, Ordering::SeqCst);
        let changed = leadership.send_if_modified(|current| std::mem::replace(current, now) != now);
        if changed && now.is_leader {
            tracing::info!(term = now.term, "this member leads");
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            changed = applied_term.changed() => if changed.is_err() { return },
        }
    }
}
