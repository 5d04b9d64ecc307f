//! The state machine as openraft drives it: entries in; one write batch, one view, events and answers out.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::snapshot::{Kept, RaftSnapshot, SnapshotBuilder, SnapshotMeta, StateSnapshot, meta_of};
use super::types::{LogId, Membership, Payload, StoredMembership, TypeConfig};
use crate::Error;
use crate::codec::{Reader, put_u64};
use crate::command::{Batch, Outcome};
use crate::data_dir::DataDir;
use crate::engine::{Engine, Snapshot};
use crate::fatal::end_process;
use crate::metrics::Metrics;
use crate::mvcc::Horizon;
use crate::mvcc::alarm::Alarms;
use crate::mvcc::apply::{Effects, Mvcc};
use crate::mvcc::engine::{EngineError, Family, Read, WriteSet};
use crate::mvcc::rows::{Rows, WithRows};
use crate::snapshot::{self, Received, Source};
use crate::store::lessor::Lessor;
use crate::store::proposals::Proposals;
use crate::watch::Hub;

const APPLIED: &[u8] = b"raft-applied";
const MEMBERSHIP: &[u8] = b"raft-membership";
const REMOVED: &[u8] = b"raft-removed";

/// What was applied, as readers see it: replaced as a whole after every batch.
pub struct Applied {
    pub horizon: Horizon,
    pub log_id: Option<LogId>,
    pub alarms: Arc<Alarms>,
    pub snapshot: Snapshot,
}

/// Where apply tells of what it did.
pub struct Outputs {
    pub view: Arc<ArcSwap<Applied>>,
    /// Those of the view that are known; held while the view is replaced.
    pub rows: Arc<Mutex<Rows>>,
    pub proposals: Arc<Proposals>,
    pub hub: Arc<Hub>,
    pub lessor: Arc<Lessor>,
    /// Term of the newest applied entry.
    pub term: watch::Sender<u64>,
    /// Its index.
    pub index: watch::Sender<u64>,
    /// Members that were removed for good.
    pub removed: watch::Sender<BTreeSet<u64>>,
    /// The floor, told when it moves.
    pub compacted: watch::Sender<i64>,
}

pub struct StateMachine {
    engine: Arc<Engine>,
    mvcc: Mvcc,
    writes: WriteSet,
    applied: Option<LogId>,
    membership: StoredMembership,
    kept: Arc<Mutex<Kept>>,
    data_dir: Arc<DataDir>,
    /// Something was applied since the start: the view tells what the state is.
    runs: bool,
    outputs: Outputs,
    metrics: Metrics,
}

impl StateMachine {
    /// Loads the state that `engine` holds.
    pub fn load(
        engine: Arc<Engine>,
        mvcc: Mvcc,
        data_dir: Arc<DataDir>,
        outputs: Outputs,
        metrics: Metrics,
    ) -> Result<Self, EngineError> {
        let (applied, membership) = load_applied(&*engine)?;
        outputs.removed.send_replace(load_removed(&*engine)?);
        if let Some(applied) = applied {
            outputs.index.send_replace(applied.index);
        }
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
            kept: Arc::new(Mutex::new(Kept {
                durable,
                sending: None,
            })),
            data_dir,
            runs: false,
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
                self.note_removed(&membership);
                self.membership = StoredMembership::new(Some(log_id), membership);
                save_membership(&mut self.writes, &self.membership);
            }
            Payload::Normal(proposal) => {
                let mut batch = proposal.into_batch();
                let mut results = Vec::with_capacity(batch.commands.len());
                let base = WithRows {
                    base: &*self.engine,
                    rows: &self.outputs.rows,
                };
                for command in std::mem::take(&mut batch.commands) {
                    let term = log_id.leader_id.term;
                    results.push(self.mvcc.apply(
                        &base,
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

    /// Members that are gone never come back: their ids are kept.
    fn note_removed(&mut self, new: &Membership) {
        let old = self.membership.membership().nodes().map(|(id, _)| *id);
        let gone: BTreeSet<u64> = old.filter(|id| new.get_node(id).is_none()).collect();
        if gone.is_empty() {
            return;
        }
        let mut removed = self.outputs.removed.borrow().clone();
        removed.extend(gone);
        let raw = serde_json::to_vec(&removed).expect("a set of numbers is JSON");
        self.writes.put(Family::Meta, REMOVED, raw);
        self.outputs.removed.send_replace(removed);
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
        save_log_id(&mut self.writes, applied);
        let started = std::time::Instant::now();
        self.engine.commit(&self.writes)?;
        let took = started.elapsed().as_secs_f64();
        self.metrics.commit_seconds.observe(took);
        let outcomes = answers.iter().flat_map(|(_, results)| results);
        self.metrics.note_outcomes(outcomes);
        self.show(|rows, writes| rows.note(writes));
        self.writes.clear();
        let horizon = self.mvcc.horizon;
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
        self.outputs.proposals.passed(term);
        self.outputs.index.send_replace(applied.index);
        self.outputs
            .term
            .send_if_modified(|current| std::mem::replace(current, term) != term);
        Ok(())
    }
}

fn save_log_id(writes: &mut WriteSet, applied: LogId) {
    let mut raw = Vec::with_capacity(16);
    put_u64(&mut raw, applied.leader_id.term);
    put_u64(&mut raw, applied.index);
    writes.put(Family::Meta, APPLIED, raw);
}

fn save_membership(writes: &mut WriteSet, membership: &StoredMembership) {
    let raw = serde_json::to_vec(membership).expect("a membership is JSON");
    writes.put(Family::Meta, MEMBERSHIP, raw);
}

/// Writes which entry the state holds, and which members the cluster has.
pub fn save_applied(writes: &mut WriteSet, applied: LogId, membership: &StoredMembership) {
    save_log_id(writes, applied);
    save_membership(writes, membership);
}

/// The ids of members that were removed for good.
pub fn load_removed(view: &dyn Read) -> Result<BTreeSet<u64>, EngineError> {
    let Some(raw) = view.get(Family::Meta, REMOVED)? else {
        return Ok(BTreeSet::new());
    };
    serde_json::from_slice(&raw).map_err(|_| {
        EngineError::damaged(Family::Meta)(crate::codec::DecodeError("not a set of members"))
    })
}

/// The last entry that the state holds, and the members that the cluster has.
pub fn load_applied(view: &dyn Read) -> Result<(Option<LogId>, StoredMembership), EngineError> {
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
        if let Err(error) = self.publish(effects, answers) {
            // Some of it may have been written: only the log tells what the state should be.
            end_process("writing the state", &error);
        }
        responders
            .into_iter()
            .for_each(|responder| responder.send(()));
        self.metrics
            .apply_seconds
            .observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        if !force && self.kept.lock().holds_log() {
            tracing::debug!("a member takes in a snapshot: the log is not purged now");
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            engine: self.engine.clone(),
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            kept: self.kept.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: StateSnapshot,
    ) -> Result<(), io::Error> {
        match snapshot {
            StateSnapshot::Received(received) => self.install(meta, received).await,
            // What is this member's own or durable here is its state already.
            StateSnapshot::Own(_) | StateSnapshot::Durable => Ok(()),
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        if !self.runs {
            let durable = self.kept.lock().durable.clone();
            return Ok(durable.map(|meta| RaftSnapshot {
                meta,
                snapshot: StateSnapshot::Durable,
            }));
        }
        let kept = self.kept.lock().sending.clone();
        let source = match kept {
            Some(source) => Some(source),
            None => {
                let identity = self.data_dir.identity;
                let view = self.outputs.view.load_full();
                let source = Source::new(identity.cluster_id, identity.member_id, view);
                source.map_err(io::Error::other)?.map(Arc::new)
            }
        };
        self.kept.lock().sending.clone_from(&source);
        Ok(source.map(|source| RaftSnapshot {
            meta: meta_of(&source.header),
            snapshot: StateSnapshot::Own(source),
        }))
    }
}

impl StateMachine {
    /// Takes over a received state: built beside the present one, then put in its place by one renamed file. Readers
    /// and watchers keep the view that they have; the next one that they load is of the new state.
    async fn install(&mut self, meta: &SnapshotMeta, received: Received) -> Result<(), io::Error> {
        let to = self.data_dir.next_state()?;
        let cache = self.engine.block_cache_bytes();
        let built = crate::threads::spawn_blocking(move || {
            snapshot::load(&received.path, false, &to, cache).map(|(engine, _)| engine)
        });
        let engine = Arc::new(built.await?.map_err(io::Error::other)?);
        let (applied, membership) = load_applied(&*engine).map_err(io::Error::other)?;
        if applied != meta.last_log_id {
            return Err(io::Error::other(
                "the snapshot is of another log id than was said",
            ));
        }
        let mvcc = Mvcc::load(&*engine).map_err(io::Error::other)?;
        self.data_dir.adopt_state()?;
        tracing::info!(
            revision = mvcc.horizon.revision,
            index = applied.map(|id| id.index),
            "took over the state of another member"
        );
        *self.kept.lock() = Kept {
            durable: Some(meta.clone()),
            sending: None,
        };
        let removed = load_removed(&*engine).map_err(io::Error::other)?;
        self.outputs.removed.send_replace(removed);
        self.mvcc = mvcc;
        self.applied = applied;
        self.membership = membership;
        std::mem::replace(&mut self.engine, engine).retire();
        self.tell_of_new_state();
        Ok(())
    }

    /// Lets readers see the state, and `change` the rows that are known with it.
    fn show(&mut self, change: impl FnOnce(&mut Rows, &WriteSet)) {
        self.runs = true;
        let applied = Arc::new(Applied {
            horizon: self.mvcc.horizon,
            log_id: self.applied,
            alarms: self.mvcc.alarms.clone(),
            snapshot: Snapshot::take(&self.engine),
        });
        let mut rows = self.outputs.rows.lock();
        change(&mut rows, &self.writes);
        self.outputs.view.store(applied);
    }

    fn tell_of_new_state(&mut self) {
        self.show(|rows, _| *rows = Rows::default());
        let horizon = self.mvcc.horizon;
        self.outputs.lessor.reset(&self.mvcc.leases);
        self.outputs.hub.jump(horizon);
        self.outputs.compacted.send_replace(horizon.compacted);
        // Answers come from apply, and what the snapshot holds is not applied one by one.
        self.outputs.proposals.outcome_unknown();
        if let Some(applied) = self.applied {
            self.outputs.proposals.passed(applied.leader_id.term);
            self.outputs.term.send_replace(applied.leader_id.term);
            self.outputs.index.send_replace(applied.index);
        }
    }
}
