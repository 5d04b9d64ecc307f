//! Opening a store: every part is made here and given what it needs of the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::leader_leases::LeaderLeases;
use super::lessor::Lessor;
use super::proposals::Proposals;
use super::read_index::ReadIndex;
use super::space::{DiskLooks, Space};
use super::to_leader::ToLeader;
use super::{Inner, Store, bootstrap, compaction};
use crate::data_dir::{DataDir, Identity};
use crate::engine::{Engine, Snapshot};
use crate::log::LogStorage;
use crate::mvcc::apply::Mvcc;
use crate::mvcc::engine::EngineError;
use crate::mvcc::rows::Rows;
use crate::peer::{Me, PeerNetwork, Tcp};
use crate::raft::{Applied, Followed, Node, Outputs, Parts, StateMachine};
use crate::watch::Hub;
use crate::{Bootstrap, Config, Leadership, Metrics, OpenError};

pub async fn open(config: Config) -> Result<Store, OpenError> {
    let metrics = Metrics::default();
    let network = config
        .peer_network
        .clone()
        .unwrap_or_else(|| Arc::new(Tcp::new(config.peer_tls.clone())));
    let data_dir = Arc::new(open_data_dir(&config, &network).await?);
    let space = Arc::new(Space::open(&config, &data_dir));
    let engine = open_engine(&config, &data_dir).await?;
    let mvcc = Mvcc::load(&*engine).map_err(state)?;
    let member = data_dir.identity.member_id;
    let shared = Shared::new(&config, member, &engine, &mvcc, &metrics);
    let (outputs, followed, floor) = shared.outputs(mvcc.horizon.compacted);
    let state_machine =
        StateMachine::load(engine, mvcc, data_dir.clone(), outputs, metrics.clone())
            .map_err(state)?;
    let parts = parts(
        &config,
        &data_dir,
        network,
        &shared,
        followed,
        state_machine,
        &metrics,
    )
    .await?;
    let (read_index, leases) = (parts.reads.clone(), parts.leases.clone());
    let (leadership, sole_voter) = (parts.leadership.subscribe(), parts.sole_voter.clone());
    let node = Node::start(parts).await?;
    let (cleaned, mut background) = shared.start_background(floor, &space, &metrics);
    let patience = 2 * config.election_timeout;
    background.push(shared.watch_disk(&space, member, &node, leadership.clone(), patience));
    if sole_voter.load(Ordering::SeqCst) {
        await_lead(leadership.clone()).await?;
    }
    let to_leader = ToLeader {
        peers: node.peers.clone(),
        leadership: leadership.clone(),
        timeout: config.request_timeout(),
        retry: config.heartbeat,
    };
    let inner = Inner {
        node,
        view: shared.view,
        rows: shared.rows,
        proposals: shared.proposals,
        read_index,
        hub: shared.hub,
        lessor: shared.lessor,
        leases,
        to_leader,
        leadership,
        cleaned,
        background: Mutex::new(background),
        space,
        metrics,
        config,
        data_dir,
    };
    Ok(Store {
        inner: Arc::new(inner),
    })
}

/// What the member's thread is given.
async fn parts(
    config: &Config,
    data_dir: &DataDir,
    network: Arc<dyn PeerNetwork>,
    shared: &Shared,
    followed: Followed,
    state_machine: StateMachine,
    metrics: &Metrics,
) -> Result<Parts, OpenError> {
    let identity = data_dir.identity;
    let me = Me {
        cluster: identity.cluster_id,
        member: identity.member_id,
        incarnation: identity.incarnation,
    };
    let (leads, sole_voter) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let checkpoint_due = Arc::new(Notify::new());
    let log = open_log(config, data_dir, metrics, &checkpoint_due, &sole_voter).await?;
    data_dir.sync().map_err(OpenError::Log)?;
    let (reads, waiters) = ReadIndex::new(sole_voter.clone(), leads.clone());
    Ok(Parts {
        me,
        founders: match identity.joined {
            true => None,
            false => bootstrap::founders(config, me.member, me.incarnation),
        },
        network,
        snapshots: data_dir.snapshots(),
        log_kept: log.purgeable(),
        log,
        state_machine,
        proposals: shared.proposals.clone(),
        lessor: shared.lessor.clone(),
        leases: Arc::new(LeaderLeases {
            lessor: shared.lessor.clone(),
            reads: reads.clone(),
            view: shared.view.clone(),
        }),
        reads,
        waiters,
        followed,
        leadership: watch::Sender::new(Leadership::default()),
        leads,
        sole_voter,
        checkpoint_due,
        config: config.clone(),
        metrics: metrics.clone(),
    })
}

/// What apply fills and callers use.
struct Shared {
    view: Arc<ArcSwap<Applied>>,
    rows: Arc<Mutex<Rows>>,
    hub: Arc<Hub>,
    proposals: Arc<Proposals>,
    lessor: Arc<Lessor>,
}

impl Shared {
    fn new(
        config: &Config,
        member: u64,
        engine: &Arc<Engine>,
        mvcc: &Mvcc,
        metrics: &Metrics,
    ) -> Self {
        let horizon = mvcc.horizon;
        let applied = Applied {
            horizon,
            log_id: None,
            alarms: mvcc.alarms.clone(),
            snapshot: Snapshot::take(engine),
        };
        Self {
            view: Arc::new(ArcSwap::from_pointee(applied)),
            rows: Arc::default(),
            hub: Arc::new(Hub::new(
                horizon.revision,
                config.watch_ring_bytes,
                metrics.clone(),
            )),
            proposals: Arc::new(Proposals::new(
                member,
                rand::rng().random(),
                config.request_timeout(),
                metrics.clone(),
            )),
            lessor: Arc::new(Lessor::new(&mvcc.leases, metrics.clone())),
        }
    }

    /// Starts cleaning and dispatch; returns how far cleaning has come, and the tasks.
    fn start_background(
        &self,
        floor: watch::Receiver<i64>,
        space: &Arc<Space>,
        metrics: &Metrics,
    ) -> (watch::Receiver<i64>, Vec<JoinHandle<()>>) {
        let cleaned = watch::Sender::new(0);
        let receiver = cleaned.subscribe();
        let cleaner = tokio::spawn(compaction::clean(
            self.view.clone(),
            floor,
            cleaned,
            space.clone(),
            metrics.clone(),
        ));
        let dispatcher = self.hub.clone();
        let dispatcher = tokio::spawn(async move { dispatcher.dispatch().await });
        (receiver, vec![cleaner, dispatcher])
    }

    fn watch_disk(
        &self,
        space: &Arc<Space>,
        member: u64,
        node: &Node,
        leadership: watch::Receiver<Leadership>,
        patience: Duration,
    ) -> JoinHandle<()> {
        let looks = DiskLooks {
            space: space.clone(),
            member,
            view: self.view.clone(),
            proposals: self.proposals.clone(),
            raft: node.raft.clone(),
            reconfigure: node.reconfigure.clone(),
            patience,
        };
        tokio::spawn(looks.run(leadership))
    }

    /// Where apply tells of what it did, and those who listen: the member, and the cleaner for the floor.
    fn outputs(&self, compacted: i64) -> (Outputs, Followed, watch::Receiver<i64>) {
        let outputs = Outputs {
            view: self.view.clone(),
            rows: self.rows.clone(),
            proposals: self.proposals.clone(),
            hub: self.hub.clone(),
            lessor: self.lessor.clone(),
            term: watch::Sender::new(0),
            index: watch::Sender::new(0),
            removed: watch::Sender::new(BTreeSet::new()),
            compacted: watch::Sender::new(compacted),
        };
        let followed = Followed {
            term: outputs.term.subscribe(),
            index: outputs.index.subscribe(),
            removed: outputs.removed.subscribe(),
        };
        let floor = outputs.compacted.subscribe();
        (outputs, followed, floor)
    }
}

async fn open_engine(config: &Config, data_dir: &DataDir) -> Result<Arc<Engine>, OpenError> {
    let (path, cache) = (data_dir.state(), config.block_cache_bytes);
    let engine = crate::threads::spawn_blocking(move || Engine::open(&path, cache)).await;
    Ok(Arc::new(
        engine
            .map_err(|error| OpenError::State(error.to_string()))?
            .map_err(state)?,
    ))
}

/// The log of a cluster of one is committed by its leader: once it leads, everything is applied.
async fn await_lead(mut leadership: watch::Receiver<Leadership>) -> Result<(), OpenError> {
    let led = leadership.wait_for(|leadership| leadership.is_leader).await;
    led.map(drop)
        .map_err(|_| OpenError::Raft("it ended before this member led".to_owned()))
}

async fn open_data_dir(
    config: &Config,
    network: &Arc<dyn PeerNetwork>,
) -> Result<DataDir, OpenError> {
    let path = &config.data_dir;
    let new = if DataDir::has_identity(path) {
        None
    } else {
        Some(bootstrap::identity(config, network).await?)
    };
    let joined = matches!(config.bootstrap, Bootstrap::Existing { .. });
    DataDir::open_as(path, config.expected_cluster_id, move || {
        let (cluster, member) = new.expect("a directory without an identity was given one");
        let mut identity = Identity::new(cluster, member);
        identity.joined = joined;
        identity
    })
}

async fn open_log(
    config: &Config,
    data_dir: &DataDir,
    metrics: &Metrics,
    checkpoint_due: &Arc<Notify>,
    sole_voter: &Arc<AtomicBool>,
) -> Result<LogStorage, OpenError> {
    let (path, member) = (data_dir.log(), data_dir.identity.member_id);
    let (metrics, due, sole) = (metrics.clone(), checkpoint_due.clone(), sole_voter.clone());
    let size = config.log_segment_bytes;
    let opened = crate::threads::spawn_blocking(move || {
        LogStorage::open(&path, size, member, metrics, due, sole)
    })
    .await;
    opened.map_err(|error| OpenError::Log(std::io::Error::other(error)))?
}

fn state(error: EngineError) -> OpenError {
    OpenError::State(error.to_string())
}
