//! Opening a store: every part is made here and given what it needs of the others.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::compaction;
use super::lessor::Lessor;
use super::proposals::Proposals;
use super::read_index::ReadIndex;
use super::space::{self, Space};
use super::{Inner, Store};
use crate::data_dir::DataDir;
use crate::engine::{Engine, Snapshot};
use crate::log::LogStorage;
use crate::mvcc::apply::Mvcc;
use crate::mvcc::engine::EngineError;
use crate::raft::{Applied, Node, Outputs, Parts, StateMachine};
use crate::watch::Hub;
use crate::{Config, Leadership, Metrics, OpenError};

pub async fn open(config: Config) -> Result<Store, OpenError> {
    let metrics = Metrics::default();
    let data_dir = Arc::new(open_data_dir(&config)?);
    let space = Arc::new(Space::open(&config, &data_dir));
    let engine = open_engine(&config, &data_dir).await?;
    let mvcc = Mvcc::load(&*engine).map_err(state)?;
    let shared = Shared::new(
        &config,
        data_dir.identity.member_id,
        &engine,
        &mvcc,
        &metrics,
    );
    let (leads, sole_voter) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let checkpoint_due = Arc::new(Notify::new());
    let log = open_log(&data_dir, &metrics, &checkpoint_due, &sole_voter).await?;
    let term = watch::Sender::new(0);
    let applied_term = term.subscribe();
    let compacted = watch::Sender::new(mvcc.horizon.compacted);
    let floor = compacted.subscribe();
    let (read_index, reads) = ReadIndex::new(sole_voter.clone(), leads.clone());
    let leadership = watch::Sender::new(Leadership::default());
    let led = leadership.subscribe();
    let outputs = shared.outputs(term, compacted);
    let state_machine =
        StateMachine::load(engine, mvcc, data_dir.clone(), outputs, metrics.clone())
            .map_err(state)?;
    let parts = Parts {
        config: config.clone(),
        member: data_dir.identity.member_id,
        log,
        state_machine,
        proposals: shared.proposals.clone(),
        lessor: shared.lessor.clone(),
        reads,
        applied_term,
        leadership,
        leads,
        sole_voter,
        checkpoint_due,
    };
    let node = Node::start(parts).await?;
    let (cleaned, mut background) = shared.start_background(floor, &space, &metrics);
    background.push(shared.watch_disk(&space, data_dir.identity.member_id, led.clone()));
    await_lead(led.clone()).await?;
    let inner = Inner {
        node,
        view: shared.view,
        proposals: shared.proposals,
        read_index,
        hub: shared.hub,
        lessor: shared.lessor,
        leadership: led,
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

/// What apply fills and callers use.
struct Shared {
    view: Arc<ArcSwap<Applied>>,
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
            hub: Arc::new(Hub::new(
                horizon.revision,
                config.watch_ring_bytes,
                metrics.clone(),
            )),
            proposals: Arc::new(Proposals::new(
                member,
                rand::rng().random(),
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
        leadership: watch::Receiver<Leadership>,
    ) -> JoinHandle<()> {
        tokio::spawn(space::watch_disk(
            space.clone(),
            member,
            self.view.clone(),
            self.proposals.clone(),
            leadership,
        ))
    }

    fn outputs(&self, term: watch::Sender<u64>, compacted: watch::Sender<i64>) -> Outputs {
        Outputs {
            view: self.view.clone(),
            proposals: self.proposals.clone(),
            hub: self.hub.clone(),
            lessor: self.lessor.clone(),
            term,
            compacted,
        }
    }
}

async fn open_engine(config: &Config, data_dir: &DataDir) -> Result<Arc<Engine>, OpenError> {
    let (path, cache) = (data_dir.state(), config.block_cache_bytes);
    let engine = tokio::task::spawn_blocking(move || Engine::open(&path, cache)).await;
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

fn open_data_dir(config: &Config) -> Result<DataDir, OpenError> {
    let expected = config.expected_cluster_id;
    DataDir::open(&config.data_dir, expected, || {
        let mut random = rand::rng();
        (
            expected.unwrap_or_else(|| random.random_range(1..u64::MAX)),
            random.random_range(1..u64::MAX),
        )
    })
}

async fn open_log(
    data_dir: &DataDir,
    metrics: &Metrics,
    checkpoint_due: &Arc<Notify>,
    sole_voter: &Arc<AtomicBool>,
) -> Result<LogStorage, OpenError> {
    let (path, member) = (data_dir.log(), data_dir.identity.member_id);
    let (metrics, due, sole) = (metrics.clone(), checkpoint_due.clone(), sole_voter.clone());
    let opened =
        tokio::task::spawn_blocking(move || LogStorage::open(&path, member, metrics, due, sole))
            .await;
    opened.map_err(|error| OpenError::Log(std::io::Error::other(error)))?
}

fn state(error: EngineError) -> OpenError {
    OpenError::State(error.to_string())
}
