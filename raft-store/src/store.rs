//! The store's handle: checks a request, then reads the view or proposes a command.
//!
//! Here the parts meet (`open`); rules of the data model are in `mvcc`, of agreement in `raft`.

mod alarms;
mod auto_compaction;
mod bootstrap;
mod compaction;
mod corruption;
pub(crate) mod driver;
mod gather;
pub(crate) mod leader_leases;
mod leases;
pub(crate) mod lessor;
mod members;
mod open;
pub(crate) mod proposals;
pub(crate) mod read_index;
mod space;
mod to_leader;

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;

use crate::command::{Command, Outcome};
use crate::data_dir::DataDir;
use crate::mvcc::engine::EngineError;
use crate::mvcc::rows::Rows;
use crate::mvcc::{Failure, range, txn, validate};
use crate::planted::{Bug, planted};
use crate::raft::{Applied, Node};
use crate::request_size::request_size;
use crate::snapshot::Source;
use crate::watch::Hub;
use crate::*;
pub use auto_compaction::AutoCompaction;
use leader_leases::LeaderLeases;
use lessor::Lessor;
use proposals::Proposals;
use read_index::ReadIndex;
use space::Space;
use to_leader::ToLeader;

/// One member of the store. Cheap to clone; the last clone that goes away stops it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    node: Node,
    view: Arc<ArcSwap<Applied>>,
    /// Those of the view that are known.
    rows: Arc<Mutex<Rows>>,
    proposals: Arc<Proposals>,
    read_index: ReadIndex,
    hub: Arc<Hub>,
    lessor: Arc<Lessor>,
    leases: Arc<LeaderLeases>,
    to_leader: ToLeader,
    leadership: Receiver<Leadership>,
    cleaned: Receiver<i64>,
    /// Tasks that end with the member.
    background: Mutex<Vec<JoinHandle<()>>>,
    space: Arc<Space>,
    metrics: Metrics,
    config: Config,
    data_dir: Arc<DataDir>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("data_dir", &self.inner.config.data_dir)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hub.close();
        self.proposals.close();
    }
}

impl Store {
    /// Opens or creates the member in `config.data_dir` and returns once it may serve: after replay of everything
    /// that was committed, and, as the only member, as leader.
    pub async fn open(config: Config) -> Result<Store, OpenError> {
        open::open(config).await
    }

    /// Reads keys; linearizable unless `serializable`.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        validate::range(&request)?;
        if !request.serializable {
            self.inner.read_index.wait().await?;
        }
        self.range_serializable(&request)
    }

    /// Reads keys from this member's state as it is, on the calling thread.
    pub fn range_serializable(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        validate::range(request)?;
        self.check_whole()?;
        self.inner.metrics.ranges.inc();
        let (view, known) = self.known_range(request)?;
        match known {
            Some(answer) => Ok(answer),
            None => Ok(range::range(&view.snapshot, view.horizon, request)?),
        }
    }

    /// As [`Store::range`], but none if it may take long: the caller then reads where that holds up nobody.
    pub async fn short_range(
        &self,
        request: &RangeRequest,
    ) -> Result<Option<RangeResponse>, Error> {
        validate::range(request)?;
        if !request.serializable {
            self.inner.read_index.wait().await?;
        }
        self.check_whole()?;
        let (view, known) = self.known_range(request)?;
        if known.is_some() {
            self.inner.metrics.ranges.inc();
            return Ok(known);
        }
        let Some(few) = range::read_few(&view.snapshot, view.horizon, request)? else {
            return Ok(None);
        };
        self.inner.metrics.ranges.inc();
        let mut rows = self.inner.rows.lock();
        if Arc::ptr_eq(&view, &self.inner.view.load()) {
            few.keep(&mut rows, request);
        }
        drop(rows);
        Ok(Some(
            few.answer(view.horizon, request).map_err(Failure::from)?,
        ))
    }

    /// The answer, if all rows that it needs are known; and the view that it is of.
    fn known_range(
        &self,
        request: &RangeRequest,
    ) -> Result<(Guard<Arc<Applied>>, Option<RangeResponse>), Error> {
        // The view is replaced by whoever holds the rows.
        let mut rows = self.inner.rows.lock();
        let view = self.inner.view.load();
        let known = range::known_range(&mut rows, view.horizon, request)?;
        Ok((view, known))
    }

    /// Runs a transaction. One that cannot write is answered as a read.
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        validate::txn(&request, self.inner.config.max_txn_ops)?;
        if request.fence.is_none() && txn::is_read_only(&request) {
            if !txn::is_serializable(&request) {
                self.inner.read_index.wait().await?;
            }
            self.check_whole()?;
            let view = self.inner.view.load();
            let answer = txn::read_only(&view.snapshot, view.horizon, &request)?;
            self.inner.metrics.note_read_only(&answer.responses);
            return Ok(answer);
        }
        match self.propose(Command::Txn(request)).await? {
            Outcome::Txn(response) => Ok(response),
            other => unreachable!("a transaction was answered by {other:?}"),
        }
    }

    pub async fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        validate::put(&request)?;
        if planted(Bug::AcknowledgeBeforeCommit) {
            return Ok(self.put_some_time(request));
        }
        match self.propose(Command::Put(request)).await? {
            Outcome::Put(response) => Ok(response),
            other => unreachable!("a put was answered by {other:?}"),
        }
    }

    /// The planted bug: answers before anything is agreed on.
    fn put_some_time(&self, request: PutRequest) -> PutResponse {
        let store = self.clone();
        tokio::spawn(async move { store.propose(Command::Put(request)).await });
        PutResponse {
            revision: self.revision() + 1,
            prev_kv: None,
        }
    }

    pub async fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        validate::delete_range(&request)?;
        match self.propose(Command::DeleteRange(request)).await? {
            Outcome::DeleteRange(response) => Ok(response),
            other => unreachable!("a delete was answered by {other:?}"),
        }
    }

    /// Forgets history before `revision`; with `physical` waits until its rows are removed.
    pub async fn compact(&self, revision: i64, physical: bool) -> Result<CompactResponse, Error> {
        let response = match self.propose(Command::Compact { revision }).await? {
            Outcome::Compact(response) => response,
            other => unreachable!("a compaction was answered by {other:?}"),
        };
        if physical {
            let mut cleaned = self.inner.cleaned.clone();
            cleaned
                .wait_for(|floor| *floor >= revision)
                .await
                .map_err(|_| Error::Stopped)?;
        }
        Ok(response)
    }

    async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        if request_size(&command) > self.inner.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        self.check_room(&command).await?;
        self.inner.proposals.propose(command).await
    }

    /// ReadIndex: a revision at least as new as every write acknowledged before the call, applied on this member.
    pub async fn read_index(&self) -> Result<i64, Error> {
        self.inner.read_index.wait().await?;
        Ok(self.revision())
    }

    /// The revision this member has applied.
    pub fn revision(&self) -> i64 {
        self.inner.view.load().horizon.revision
    }

    /// The floor of history: reads below it fail, 0 if nothing was compacted.
    pub fn compacted_revision(&self) -> i64 {
        self.inner.view.load().horizon.compacted
    }

    /// Follows the applied revision, each after its events were handed to the watchers' queues.
    pub fn applied(&self) -> Receiver<i64> {
        self.inner.hub.dispatched()
    }

    /// Whether this member is one, and has no vote: it serves next to nothing.
    pub fn is_learner(&self) -> bool {
        self.inner.node.peers.is_learner()
    }

    /// Commands of callers of this member that are not decided yet.
    pub fn proposals_pending(&self) -> usize {
        self.inner.proposals.pending()
    }

    /// Follows who leads.
    pub fn leadership(&self) -> Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Who leads now.
    pub fn leader(&self) -> Leadership {
        *self.inner.leadership.borrow()
    }

    /// Starts watching. A start before the floor fails with `Compacted`.
    pub fn watch(&self, mut request: WatchRequest) -> Result<Watcher, Error> {
        if request.range.key.is_empty() {
            // As etcd: an empty key means the smallest.
            request.range.key = KeyRange::all().key;
        }
        if let RangeEnd::Before(end) = &request.range.end
            && *end <= request.range.key
        {
            return Err(Error::EmptyWatchRange);
        }
        let compact_revision = self.compacted_revision();
        if request.start_revision < 0 || (1..compact_revision).contains(&request.start_revision) {
            return Err(Error::Compacted { compact_revision });
        }
        Ok(Watcher::new(
            self.inner.hub.clone(),
            self.inner.view.clone(),
            request,
        ))
    }

    /// Hash of keys and history at `revision` (0 = newest).
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        crate::raft::hash_kv(self.inner.view.load_full(), revision).await
    }

    /// This member's whole state as it is now, as one stream. The store goes on meanwhile.
    pub async fn snapshot(&self) -> Result<SnapshotStream, Error> {
        let failed = |error: EngineError| Error::Storage(error.to_string());
        let (identity, view) = (self.inner.data_dir.identity, self.inner.view.load_full());
        let revision = view.horizon.revision;
        let source = Source::new(identity.cluster_id, identity.member_id, view).map_err(failed)?;
        let source = Arc::new(source.ok_or(Error::NoLeader)?);
        let sized = source.clone();
        let size = crate::threads::spawn_blocking(move || sized.size()).await;
        Ok(SnapshotStream {
            size: size.map_err(|_| Error::Stopped)?.map_err(failed)?,
            revision,
            blocks: source.stream(0),
        })
    }

    pub fn status(&self) -> Status {
        let view = self.inner.view.load();
        let metrics = self.inner.node.raft.metrics();
        let metrics = openraft::async_runtime::WatchReceiver::borrow_watched(&metrics);
        let leadership = *self.inner.leadership.borrow();
        let membership = metrics.membership_config.membership();
        let identity = self.inner.data_dir.identity;
        let (db_size, db_size_in_use) = view.snapshot.engine().size();
        Status {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            leader: leadership.leader,
            is_learner: self.is_learner(),
            raft_term: leadership.term,
            raft_index: metrics.last_log_index.unwrap_or(0),
            raft_committed_index: metrics.local_committed.map_or(0, |id| id.index),
            raft_applied_index: view.log_id.map_or(0, |id| id.index),
            revision: view.horizon.revision,
            compacted_revision: view.horizon.compacted,
            db_size,
            db_size_in_use,
            members: crate::raft::list_members(membership),
        }
    }

    /// The store's metrics as of now, to be registered with whoever serves them.
    pub fn metrics(&self) -> &Metrics {
        let (metrics, gauge) = (&self.inner.metrics, |count: usize| count as i64);
        self.inner.hub.measure();
        let (commands, bytes) = self.inner.proposals.queued();
        metrics.queued_commands.set(gauge(commands));
        metrics.queued_command_bytes.set(gauge(bytes));
        metrics
            .queued_reads
            .set(gauge(self.inner.read_index.queued()));
        metrics
    }

    /// Returns once others know this member: it has found its cluster, and the cluster a leader.
    pub async fn ready(&self) -> Result<(), Error> {
        let mut published = self.inner.node.published.clone();
        let published = published.wait_for(|published| *published).await;
        published.map(drop).map_err(|_| Error::Stopped)
    }

    /// The runtime of the member's own thread. Work there must be short: heartbeats wait for it. What it asks of the store
    /// changes no thread.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.inner.node.runtime.clone()
    }

    /// Returns when the member cannot go on, and why: it was removed from the cluster, or its data was replaced.
    pub async fn ended(&self) -> String {
        let mut ended = self.inner.node.ended.clone();
        let why = ended.wait_for(Option::is_some).await;
        let why = why.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // It was stopped.
            None => std::future::pending().await,
        }
    }

    /// Stops the member and waits until its thread has ended. What was acknowledged is safe with or without it.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        self.inner.hub.close();
        self.inner.node.stop().await;
        let background = std::mem::take(&mut *self.inner.background.lock());
        for task in background {
            // One that panicked has said so.
            let _ = task.await;
        }
        let engine = self.inner.view.load().snapshot.engine().clone();
        // Spares the next start the replay.
        let flush = move || {
            let flushed = engine.flush();
            engine.rest();
            flushed
        };
        match crate::threads::spawn_blocking(flush).await {
            Ok(Ok(())) => {}
            other => tracing::warn!(
                ?other,
                "the state was not flushed; the next start replays the log"
            ),
        }
    }
}

#[cfg(test)]
impl Store {
    pub(crate) fn raft(
        &self,
    ) -> openraft::Raft<crate::raft::TypeConfig, crate::raft::StateMachine> {
        self.inner.node.raft.clone()
    }
}
