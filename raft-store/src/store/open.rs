//! Opening a store: every part is made here and given what it needs of the others.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use rand::Rng;
use tokio::sync::{Notify, watch};

use super::compaction;
use super::lessor::Lessor;
use super::proposals::Proposals;
use super::read_index::ReadIndex;
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
    let data_dir = open_data_dir(&config)?;
    let member = data_dir.identity.member_id;
    let (path, cache) = (data_dir.state(), config.block_cache_bytes);
    let engine = tokio::task::spawn_blocking(move || Engine::open(&path, cache)).await;
    let engine = Arc::new(
        engine
            .map_err(|error| OpenError::State(error.to_string()))?
            .map_err(state)?,
    );
    let mvcc = Mvcc::load(&*engine).map_err(state)?;

    let leads = Arc::new(AtomicBool::new(false));
    let sole_voter = Arc::new(AtomicBool::new(false));
    let checkpoint_due = Arc::new(Notify::new());
    let log = open_log(&data_dir, &metrics, &checkpoint_due, &sole_voter).await?;

    let horizon = mvcc.horizon;
    let snapshot = Snapshot::take(&engine);
    let view = Arc::new(ArcSwap::from_pointee(Applied {
        horizon,
        log_id: None,
        snapshot,
    }));
    let hub = Arc::new(Hub::new(
        horizon.revision,
        config.watch_ring_bytes,
        metrics.clone(),
    ));
    let proposals = Arc::new(Proposals::new(
        member,
        rand::rng().random(),
        metrics.clone(),
    ));
    let lessor = Arc::new(Lessor::new(&mvcc.leases, metrics.clone()));
    let term = watch::Sender::new(0);
    let applied_term = term.subscribe();
    let compacted = watch::Sender::new(horizon.compacted);
    let floor = compacted.subscribe();
    let (read_index, reads) = ReadIndex::new(sole_voter.clone(), leads.clone());
    let leadership = watch::Sender::new(Leadership::default());
    let led = leadership.subscribe();
    let outputs = Outputs {
        view: view.clone(),
        proposals: proposals.clone(),
        hub: hub.clone(),
        lessor: lessor.clone(),
        term,
        compacted,
    };
    let state_machine =
        StateMachine::load(engine.clone(), mvcc, outputs, metrics.clone()).map_err(state)?;
    let parts = Parts {
        config: config.clone(),
        member,
        log,
        state_machine,
        proposals: proposals.clone(),
        lessor: lessor.clone(),
        reads,
        applied_term,
        leadership,
        leads,
        sole_voter,
        checkpoint_due,
    };
    let node = Node::start(parts).await?;
    let cleaned = watch::Sender::new(0);
    let cleaned_receiver = cleaned.subscribe();
    tokio::spawn(compaction::clean(
        engine.clone(),
        view.clone(),
        floor,
        cleaned,
        metrics.clone(),
    ));
    let dispatcher = hub.clone();
    tokio::spawn(async move { dispatcher.dispatch().await });
    await_lead(led.clone()).await?;
    let inner = Inner {
        node,
        view,
        engine,
        proposals,
        read_index,
        hub,
        lessor,
        leadership: led,
        cleaned: cleaned_receiver,
        metrics,
        config,
        data_dir,
    };
    Ok(Store {
        inner: Arc::new(inner),
    })
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
