//! One Raft member in its own thread: openraft, the calls between members, the proposals, the leases and the reads
//! share one small runtime.
//!
//! A thread of its own keeps heartbeats on time whatever else the process does, and makes the hops between these
//! tasks cheap.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::SnapshotPolicy;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::candidacy::Candidacy;
use super::clock::keep_time;
use super::follow::{Followed, follow_leadership, follow_members};
use super::network::Network;
use super::reconfigure::Reconfigure;
use super::service::{Accepted, PeerService};
use super::state_machine::StateMachine;
use super::transfer::Incoming;
use super::types::{MemberInfo, TypeConfig};
use super::upkeep::{checkpoint, publish, take_care};
use crate::config::{Config, OpenError};
use crate::log::LogStorage;
use crate::metrics::Metrics;
use crate::peer::{Me, PeerListener, PeerNetwork, Peers, Service, serve};
use crate::store::driver::Driver;
use crate::store::leader_leases::LeaderLeases;
use crate::store::lessor::Lessor;
use crate::store::proposals::Proposals;
use crate::store::read_index::{ReadIndex, Rounds, Waiter};
use crate::threads::Beside;
use crate::{Leadership, limits};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Everything a member is made of.
pub struct Parts {
    pub config: Config,
    pub me: Me,
    /// The members of a cluster that begins, if this is one of its founders.
    pub founders: Option<BTreeMap<u64, MemberInfo>>,
    pub network: Arc<dyn PeerNetwork>,
    /// Where other members' snapshots are taken in.
    pub snapshots: PathBuf,
    pub log: LogStorage,
    pub log_kept: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    pub state_machine: StateMachine,
    pub proposals: Arc<Proposals>,
    pub lessor: Arc<Lessor>,
    pub leases: Arc<LeaderLeases>,
    pub reads: ReadIndex,
    pub waiters: mpsc::Receiver<Waiter>,
    pub followed: Followed,
    pub leadership: watch::Sender<Leadership>,
    pub leads: Arc<AtomicBool>,
    pub sole_voter: Arc<AtomicBool>,
    pub checkpoint_due: Arc<Notify>,
    pub metrics: Metrics,
}

/// A running member.
pub struct Node {
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub reconfigure: Arc<Reconfigure>,
    /// That of the member's thread.
    pub runtime: Handle,
    /// Others know this member's name and addresses.
    pub published: watch::Receiver<bool>,
    /// Why the member ended by itself.
    pub ended: watch::Receiver<Option<String>>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<Beside>>,
}

/// What is known once the member runs.
struct Running {
    raft: Raft,
    peers: Arc<Peers>,
    reconfigure: Arc<Reconfigure>,
    runtime: Handle,
}

impl Running {
    fn here(raft: &Raft, peers: &Arc<Peers>, reconfigure: &Arc<Reconfigure>) -> Self {
        Self {
            raft: raft.clone(),
            peers: peers.clone(),
            reconfigure: reconfigure.clone(),
            runtime: Handle::current(),
        }
    }
}

type Started = oneshot::Sender<Result<Running, OpenError>>;

impl Node {
    /// Starts the member's thread and returns once Raft runs (not yet led).
    pub async fn start(parts: Parts) -> Result<Self, OpenError> {
        let (stop, stopped) = oneshot::channel();
        let (started, running) = oneshot::channel();
        let (ending, ended) = watch::channel(None);
        let (publishing, published) = watch::channel(false);
        let thread = Beside::start("raft", move || async move {
            ending.send_replace(run(parts, started, stopped, publishing).await);
        });
        let thread = thread.map_err(|error| OpenError::Raft(error.to_string()))?;
        let running = running
            .await
            .map_err(|_| OpenError::Raft("its thread has ended".to_owned()))??;
        Ok(Self {
            raft: running.raft,
            peers: running.peers,
            reconfigure: running.reconfigure,
            runtime: running.runtime,
            published,
            ended,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Stops the member and waits until its thread has ended.
    pub async fn stop(&self) {
        self.signal_stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && !thread.ended().await
        {
            tracing::error!("the Raft thread ended by a panic");
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

/// Runs the member until it is stopped, or cannot go on: then says why.
async fn run(
    parts: Parts,
    started: Started,
    stopped: oneshot::Receiver<()>,
    published: watch::Sender<bool>,
) -> Option<String> {
    let proposals = parts.proposals.clone();
    let leads = parts.leads.clone();
    let (running, mut work) = match Box::pin(start(parts, published)).await {
        Ok(started) => started,
        Err(error) => {
            drop(started.send(Err(error)));
            return None;
        }
    };
    let (raft, mut excluded) = (running.raft.clone(), running.peers.excluded());
    if started.send(Ok(running)).is_err() {
        return None;
    }
    let why = tokio::select! {
        _ = stopped => None,
        refusal = excluded.wait_for(Option::is_some) => {
            refusal.ok().and_then(|refusal| refusal.as_ref().map(ToString::to_string))
        }
        // Whichever ends first.
        _ = work.join_next() => Some("Raft has ended".to_owned()),
    };
    if let Some(why) = &why {
        tracing::error!(%why, "this member ends");
    }
    leads.store(false, Ordering::SeqCst);
    proposals.close();
    work.shutdown().await;
    if let Err(error) = raft.shutdown().await {
        tracing::error!(%error, "Raft did not end cleanly");
    }
    why
}

/// Puts the member together; the tasks that are returned beside it do its work.
async fn start(
    parts: Parts,
    published: watch::Sender<bool>,
) -> Result<(Running, JoinSet<()>), OpenError> {
    let config = &parts.config;
    let peers = Arc::new(peers(&parts));
    let listeners = listen(config, &*parts.network).await?;
    let candidacy = Arc::new(Candidacy::new(parts.log.votes()));
    let network = Network {
        peers: peers.clone(),
        candidacy: candidacy.clone(),
    };
    let (log, state) = (parts.log, parts.state_machine);
    let raft = start_raft(config, parts.me.member, network, log, state).await?;
    if let Some(founders) = &parts.founders {
        peers.set_members(&founders.clone().into(), []);
    }
    take_lead(&raft, parts.me.member, parts.founders, &parts.sole_voter).await?;
    parts.followed.set_members(&raft, &peers).await?;
    let reconfigure = Arc::new(Reconfigure::new(parts.me.member, config.election_timeout));
    let (heard, hearing) = watch::channel(tokio::time::Instant::now());
    let service: Arc<dyn Service> = Arc::new(PeerService {
        raft: raft.clone(),
        peers: peers.clone(),
        reads: parts.reads.clone(),
        leases: parts.leases.clone(),
        reconfigure: reconfigure.clone(),
        accepted: Accepted::default(),
        candidacy,
        incoming: Incoming::new(parts.snapshots, parts.me.cluster),
        heard,
    });
    let leadership = parts.leadership.subscribe();
    let driver = Driver {
        raft: raft.clone(),
        peers: peers.clone(),
        proposals: parts.proposals.clone(),
        leadership: leadership.clone(),
        sole_voter: parts.sole_voter.clone(),
        request_timeout: config.request_timeout(),
        retry: config.heartbeat,
    };
    let rounds = Rounds {
        raft: raft.clone(),
        peers: peers.clone(),
        leadership: leadership.clone(),
        applied: parts.followed.index.clone(),
        request_timeout: config.request_timeout(),
        retry: config.heartbeat,
    };
    let running = Running::here(&raft, &peers, &reconfigure);
    let (lessor, proposals, config) = (parts.lessor, parts.proposals, parts.config);
    let (waiters, due, kept) = (parts.waiters, parts.checkpoint_due, parts.log_kept);
    let (sender, leads, mut followed) = (parts.leadership, parts.leads, parts.followed);
    let servers = serve_all(listeners, &peers, &service);
    let care = async move {
        let _servers = servers;
        tokio::select! {
            () = lessor.run(leadership.clone(), proposals) => {}
            () = checkpoint(&raft, &due, &*kept) => {}
            () = follow_members(&raft, &peers, followed.removed.clone()) => {}
            () = publish(&raft, &peers, &reconfigure, &config, leadership.clone(), published) => {}
            () = take_care(&raft, &reconfigure, config.heartbeat) => {}
            () = keep_time(&raft, hearing.clone(), config.heartbeat) => {}
            () = follow_leadership(&raft, &mut followed.term, hearing, &sender, &leads, config.quorum_silence()) => {}
        }
    };
    // Tasks, those that every write wakes apart: to wake the thread's outermost future costs a system call.
    let mut work = JoinSet::new();
    work.spawn(driver.run());
    work.spawn(rounds.run(waiters));
    work.spawn(care);
    Ok((running, work))
}

fn peers(parts: &Parts) -> Peers {
    Peers::new(
        parts.me,
        parts.network.clone(),
        Handle::current(),
        parts.config.election_timeout,
        parts.metrics.clone(),
    )
}

fn serve_all(
    listeners: Vec<Box<dyn PeerListener>>,
    peers: &Arc<Peers>,
    service: &Arc<dyn Service>,
) -> JoinSet<()> {
    let servers = listeners.into_iter();
    servers
        .map(|listener| serve(listener, peers.clone(), service.clone()))
        .collect()
}

async fn listen(
    config: &Config,
    network: &dyn PeerNetwork,
) -> Result<Vec<Box<dyn PeerListener>>, OpenError> {
    let mut listeners = Vec::new();
    for url in &config.listen_peer_urls {
        let listener = network.listen(url).await;
        listeners.push(listener.map_err(|source| OpenError::Listen {
            url: url.clone(),
            source,
        })?);
        tracing::info!(%url, "listening for other members");
    }
    Ok(listeners)
}

async fn start_raft(
    config: &Config,
    member: u64,
    network: Network,
    log: LogStorage,
    state_machine: StateMachine,
) -> Result<Raft, OpenError> {
    let failed = |error: String| OpenError::Raft(error);
    let millis = |duration: std::time::Duration| duration.as_millis() as u64;
    let (heartbeat, election) = (millis(config.heartbeat), millis(config.election_timeout));
    // A voter stands for election when it has heard nothing for the longest timeout and a random part between both:
    // between seven tenths of the election timeout and the whole of it. See docs/adr/0011.
    let min = (election / 5).max(heartbeat + heartbeat / 2);
    let raft_config = openraft::Config {
        cluster_name: "store".to_owned(),
        heartbeat_interval: heartbeat,
        election_timeout_min: min,
        election_timeout_max: (election / 2).max(min + heartbeat),
        // Checkpoints follow the log's size, not its number of entries.
        snapshot_policy: SnapshotPolicy::Never,
        // The log is kept by its size: see `checkpoint`.
        max_in_snapshot_log_to_keep: u64::MAX / 2,
        enable_pre_vote: Some(true),
        backoff: format!("{heartbeat}ms"),
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
    let raft = Raft::new(member, raft_config, network, log, state_machine).await;
    raft.map_err(|error| failed(error.to_string()))
}

/// A founder begins its cluster; the only voter of an old one need not wait for an election timeout.
async fn take_lead(
    raft: &Raft,
    member: u64,
    founders: Option<BTreeMap<u64, MemberInfo>>,
    sole_voter: &AtomicBool,
) -> Result<(), OpenError> {
    let failed = |error: String| OpenError::Raft(error);
    let initialized = raft
        .is_initialized()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !initialized {
        let Some(members) = founders else {
            tracing::info!("waiting for the cluster's leader to bring this member up to date");
            return Ok(());
        };
        sole_voter.store(members.len() == 1, Ordering::SeqCst);
        let founded = raft.initialize(members).await;
        // The other founders may have begun, and told this member, in the same moment.
        return match founded {
            Err(error) if !raft.is_initialized().await.unwrap_or(false) => {
                Err(failed(error.to_string()))
            }
            _ => Ok(()),
        };
    }
    let alone = raft.with_raft_state(move |state| {
        let mut voters = state.membership_state.effective().voter_ids();
        voters.next() == Some(member) && voters.next().is_none()
    });
    let alone = alone.await.map_err(|error| failed(error.to_string()))?;
    sole_voter.store(alone, Ordering::SeqCst);
    if alone {
        raft.trigger()
            .elect(false)
            .await
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

const _: () = assert!(limits::PEER_APPEND_BYTES < limits::PEER_FRAME_BYTES);
