//! The store's handle: what callers hold.
use tokio::sync::watch::Receiver;

use crate::*;

/// One member of the store. Cheap to clone; the last clone that goes away stops it.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens or creates the member in `config.data_dir` and returns once it may serve: after replay of everything
    /// that was committed, and, as the only member, as leader.
    pub async fn open(_config: Config) -> Result<Store, OpenError> {
        Err(OpenError::State("not built yet".into()))
    }
    /// Reads keys; linearizable unless `serializable`.
    pub async fn range(&self, _request: RangeRequest) -> Result<RangeResponse, Error> {
        Err(Error::Stopped)
    }
    /// Reads keys from this member's state as it is, on the calling thread.
    pub fn range_serializable(&self, _request: &RangeRequest) -> Result<RangeResponse, Error> {
        Err(Error::Stopped)
    }
    /// Runs a transaction. One that cannot write is answered as a read.
    pub async fn txn(&self, _request: TxnRequest) -> Result<TxnResponse, Error> {
        Err(Error::Stopped)
    }
    pub async fn put(&self, _request: PutRequest) -> Result<PutResponse, Error> {
        Err(Error::Stopped)
    }
    pub async fn delete_range(
        &self,
        _request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        Err(Error::Stopped)
    }
    /// Forgets history before `revision`; with `physical` waits until the space is given up.
    pub async fn compact(&self, _revision: i64, _physical: bool) -> Result<CompactResponse, Error> {
        Err(Error::Stopped)
    }
    pub async fn lease_grant(
        &self,
        _request: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Error> {
        Err(Error::Stopped)
    }
    /// Ends a lease and deletes its keys, in one revision.
    pub async fn lease_revoke(&self, _id: i64) -> Result<LeaseRevokeResponse, Error> {
        Err(Error::Stopped)
    }
    /// Renews a lease; answers `ttl` 0 if there is none.
    pub async fn lease_keep_alive(&self, _id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        Err(Error::Stopped)
    }
    pub async fn lease_time_to_live(
        &self,
        _id: i64,
        _keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        Err(Error::Stopped)
    }
    pub async fn lease_leases(&self) -> Result<LeaseLeasesResponse, Error> {
        Err(Error::Stopped)
    }
    /// ReadIndex: a revision at least as new as every write acknowledged before the call, applied on this member.
    pub async fn read_index(&self) -> Result<i64, Error> {
        Err(Error::Stopped)
    }
    /// The revision this member has applied.
    pub fn revision(&self) -> i64 {
        1
    }
    /// The floor of history: reads below it fail, 0 if nothing was compacted.
    pub fn compacted_revision(&self) -> i64 {
        0
    }
    /// Follows the applied revision (after its events were handed to the watchers).
    pub fn applied(&self) -> Receiver<i64> {
        unreachable!("no store can be opened yet")
    }
    /// Follows who leads.
    pub fn leadership(&self) -> Receiver<Leadership> {
        unreachable!("no store can be opened yet")
    }
    /// Starts watching. A start before the floor fails with `Compacted`.
    pub fn watch(&self, _request: WatchRequest) -> Result<Watcher, Error> {
        Err(Error::Stopped)
    }
    pub fn status(&self) -> Status {
        Status::default()
    }
    /// Hash of keys and history at `revision` (0 = newest).
    pub async fn hash_kv(&self, _revision: i64) -> Result<HashKvResponse, Error> {
        Err(Error::Stopped)
    }
    pub fn metrics(&self) -> &Metrics {
        unreachable!("no store can be opened yet")
    }
    /// Stops the member; what was acknowledged is safe with or without it.
    pub async fn shutdown(&self) {}
}
