//! The state machine as openraft drives it: entries in; one write batch, one view, events and answers out.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::watch;

use super::types::{LogId, Payload, StoredMembership, TypeConfig};
use crate::Error;
use crate::codec::{Reader, put_u64};
use crate::command::{Batch, Outcome};
use crate::engine::{Engine, Snapshot};
use crate::metrics::Metrics;
use crate::mvcc::Horizon;
use crate::mvcc::apply::{Effects, Mvcc};
use crate::mvcc::engine::{EngineError, Family, Read, WriteSet};
use crate::store::lessor::Lessor;
use crate::store::proposals::Proposals;
use crate::watch::Hub;

type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, StateSnapshot>;

const APPLIED: &[u8] = b"raft-applied";
const MEMBERSHIP: &[u8] = b"raft-membership";

/// What was applied, as readers see it: replaced as a whole after every batch.
pub struct Applied {
    pub horizon: Horizon,
    pub log_id: Option<LogId>,
    pub snapshot: Snapshot,
}

/// Where apply tells of what it did.
pub struct Outputs {
    pub view: Arc<ArcSwap<Applied>>,
    pub proposals: Arc<Proposals>,
    pub hub: Arc<Hub>,
    pub lessor: Arc<Lessor>,
    /// Term of the newest applied entry.
    pub term: watch::Sender<u64>,
    /// The floor, told when it moves.
    pub compacted: watch::Sender<i64>,
}

pub struct StateMachine {
    engine: Arc<Engine>,
    mvcc: Mvcc,
    writes: WriteSet,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// What is known to be durable.
    durable: Arc<parking_lot::Mutex<Option<SnapshotMeta>>>,
    outputs: Outputs,
    metrics: Metrics,
}

impl StateMachine {
    /// Loads the state that `engine` holds.
    pub fn load(
        engine: Arc<Engine>,
        mvcc: Mvcc,
        outputs: Outputs,
        metrics: Metrics,
    ) -> Result<Self, EngineError> {
        let (applied, membership) = load_applied(&*engine)?;
        // What an engine holds when it is opened was read from disk.
        let durable = applied.map(|id| SnapshotMeta {
            last_log_id: Some(id),
            last_membership: membership.clone(),
        });
        Ok(Self {
            engine,
            mvcc,
            writes: WriteSet::default(),
            applied,
            membership,
            durable: Arc::new(parking_lot::Mutex::new(durable)),
            outputs,
            metrics,
        })
    }

    fn apply_entry(
        &mut self,
        log_id: LogId,
        payload: Payload,
        effects: &mut Effects,
        answers: &mut Vec<(Batch, Vec<Result<Outcome, Error>>)>,
    ) -> Result<(), EngineError> {
        match payload {
            Payload::Blank => {}
            Payload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership);
                let raw = serde_json::to_vec(&self.membership).expect("a membership is JSON");
                self.writes.put(Family::Meta, MEMBERSHIP, raw);
            }
            Payload::Normal(proposal) => {
                let mut batch = proposal.into_batch();
                let mut results = Vec::with_capacity(batch.commands.len());
                for command in std::mem::take(&mut batch.commands) {
                    let term = log_id.leader_id.term;
                    results.push(self.mvcc.apply(
                        &*self.engine,
                        &mut self.writes,
                        effects,
                        term,
                        command,
                    )?);
                }
                answers.push((batch, results));
            }
        }
        self.applied = Some(log_id);
        Ok(())
    }

    /// Writes what was applied and tells everyone: first the view, then events, then the answers.
    fn publish(
        &mut self,
        effects: Effects,
        answers: Vec<(Batch, Vec<Result<Outcome, Error>>)>,
    ) -> Result<(), EngineError> {
        let Some(applied) = self.applied else {
            return Ok(());
        };
        self.mvcc.save(&mut self.writes);
        let mut raw = Vec::with_capacity(16);
        put_u64(&mut raw, applied.leader_id.term);
        put_u64(&mut raw, applied.index);
        self.writes.put(Family::Meta, APPLIED, raw);
        self.engine.commit(&mut self.writes)?;
        let horizon = self.mvcc.horizon;
        let snapshot = Snapshot::take(&self.engine);
        self.outputs.view.store(Arc::new(Applied {
            horizon,
            log_id: self.applied,
            snapshot,
        }));
        // A watcher that sees a lease's keys go must find the lease gone, too.
        self.outputs.lessor.take_in(effects.leases);
        self.outputs.hub.publish(horizon, effects.events);
        if effects.compacted {
            self.outputs.compacted.send_replace(horizon.compacted);
        }
        for (batch, results) in answers {
            self.outputs.proposals.complete(batch.origin, results);
        }
        let term = applied.leader_id.term;
        self.outputs
            .term
            .send_if_modified(|current| std::mem::replace(current, term) != term);
        Ok(())
    }
}

fn load_applied(view: &dyn Read) -> Result<(Option<LogId>, StoredMembership), EngineError> {
    let damaged = || EngineError::damaged(Family::Meta);
    let applied = match view.get(Family::Meta, APPLIED)? {
        None => None,
        Some(raw) => {
            let mut reader = Reader::new(raw);
            let (term, index) = (
                reader.u64().map_err(damaged())?,
                reader.u64().map_err(damaged())?,
            );
            Some(super::types::log_id(term, index))
        }
    };
    let membership = match view.get(Family::Meta, MEMBERSHIP)? {
        None => StoredMembership::default(),
        Some(raw) => serde_json::from_slice(&raw)
            .map_err(|_| damaged()(crate::codec::DecodeError("not a membership")))?,
    };
    Ok((applied, membership))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = StateSnapshot;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let started = std::time::Instant::now();
        let mut effects = Effects::default();
        let mut answers = Vec::new();
        let mut responders = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            responders.extend(responder);
            self.apply_entry(entry.log_id, entry.payload, &mut effects, &mut answers)
                .map_err(io::Error::other)?;
        }
        self.publish(effects, answers).map_err(io::Error::other)?;
        responders
            .into_iter()
            .for_each(|responder| responder.send(()));
        self.metrics
            .apply_seconds
            .observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        };
        SnapshotBuilder {
            engine: self.engine.clone(),
            meta,
            durable: self.durable.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta,
        _: StateSnapshot,
    ) -> Result<(), io::Error> {
        Err(io::Error::other(
            "taking over another member's state is not supported by this version",
        ))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        let durable = self.durable.lock().clone();
        Ok(durable.map(|meta| RaftSnapshot {
            meta,
            snapshot: StateSnapshot {},
        }))
    }
}

/// A durable state of this member. Its rows stay in RocksDB; a copy for another member is made when one asks.
#[derive(Debug)]
pub struct StateSnapshot {}

/// Makes the state durable, so that the log before it may go.
pub struct SnapshotBuilder {
    engine: Arc<Engine>,
    meta: SnapshotMeta,
    durable: Arc<parking_lot::Mutex<Option<SnapshotMeta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = StateSnapshot;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.flush())
            .await?
            .map_err(io::Error::other)?;
        *self.durable.lock() = Some(self.meta.clone());
        Ok(RaftSnapshot {
            meta: self.meta.clone(),
            snapshot: StateSnapshot {},
        })
    }
}
