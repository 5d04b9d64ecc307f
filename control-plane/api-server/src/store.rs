//! The store, as the API server sees it: an ordered map of bytes with revisions.
//!
//! This trait is the only way from the control plane to its datastore. It speaks etcd's terms (revision, lease,
//! transaction, watch, compaction) so that the embedded store and an external etcd fit behind it alike. It knows
//! nothing of Kubernetes, and nothing here knows what the store is made of.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

/// A point in the store's history. Grows by one with every transaction that changes something; never goes back.
pub type Revision = u64;

/// One key at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision of the put that created the key (a delete and a new put give a new one).
    pub create_revision: Revision,
    /// Revision of the newest put.
    pub mod_revision: Revision,
    /// The lease that the key is attached to, 0 for none.
    pub lease: i64,
}

/// The half-open interval of keys `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Bytes,
}

impl KeyRange {
    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                break;
            }
        }
        Self {
            start: Bytes::copy_from_slice(prefix),
            end: end.into(),
        }
    }
}

/// What a range read answers.
#[derive(Clone, Debug, Default)]
pub struct RangeResult {
    pub entries: Vec<Entry>,
    /// More entries lie behind the limit.
    pub more: bool,
    /// Entries in the whole range at that revision, whatever the limit.
    pub count: u64,
    /// The store's revision when the read was served.
    pub revision: Revision,
}

/// A condition of a transaction. A missing key has modification revision 0.
#[derive(Clone, Debug)]
pub enum Compare {
    ModRevision { key: Bytes, revision: Revision },
    CreateRevision { key: Bytes, revision: Revision },
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    Get {
        key: Bytes,
    },
    /// `lease` 0 attaches the key to none.
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
    },
}

/// All of `then` if every compare holds, all of `otherwise` if not; at one revision.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub then: Vec<Op>,
    pub otherwise: Vec<Op>,
    /// An opaque condition of leadership that the store checks as part of the write.
    pub fence: Option<Bytes>,
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct TxnResult {
    pub succeeded: bool,
    /// The store's revision after it: the new objects' resourceVersion where it wrote.
    pub revision: Revision,
    /// One for each `Get` of the branch taken, in order.
    pub gets: Vec<Option<Entry>>,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub struct StoreEvent {
    pub key: Bytes,
    /// The revision of the change.
    pub revision: Revision,
    /// The new state; none for a delete.
    pub current: Option<Entry>,
    /// The state before; none for a create, or where compaction has taken it.
    pub previous: Option<Entry>,
}

/// Changes in order. Whole revisions only; an empty batch tells progress.
#[derive(Clone, Debug, Default)]
pub struct WatchBatch {
    pub events: Vec<StoreEvent>,
    /// Every change in the range up to this revision has been delivered.
    pub revision: Revision,
}

/// A running watch.
#[async_trait]
pub trait StoreWatch: Send {
    /// The next batch; waits for one.
    async fn next(&mut self) -> Result<WatchBatch, StoreError>;
}

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("required revision {requested} has been compacted, the oldest is {compacted}")]
    Compacted {
        requested: Revision,
        compacted: Revision,
    },
    #[error("required revision {0} is a future revision")]
    FutureRevision(Revision),
    /// The fence no longer holds: another process leads.
    #[error("the writer is no longer the leader")]
    Fenced,
    #[error("request is too large ({0} bytes)")]
    TooLarge(usize),
    /// Refused before anything was written; may be tried again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The write may or may not have happened.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    #[error("the store is out of space")]
    NoSpace,
    /// For good: nothing that is asked of it will be answered any more.
    #[error("the store was shut down")]
    Closed,
    #[error("store error: {0}")]
    Internal(String),
}

/// The datastore.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Newest state of one key, linearizable.
    async fn get(&self, key: &[u8]) -> Result<(Option<Entry>, Revision), StoreError>;

    /// Entries in key order. `revision` 0 reads the newest, linearizable; `limit` 0 is none.
    async fn range(
        &self,
        range: KeyRange,
        limit: usize,
        revision: Revision,
    ) -> Result<RangeResult, StoreError>;

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError>;

    /// Every change in `range` from `from` (inclusive) on.
    async fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> Result<Box<dyn StoreWatch>, StoreError>;

    /// A revision that includes every write acknowledged before this call, anywhere (ReadIndex), already applied here.
    async fn read_index(&self) -> Result<Revision, StoreError>;

    /// The applied revision of this member, as it moves.
    fn applied(&self) -> watch::Receiver<Revision>;

    /// Forgets history before `revision`.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// A lease of `ttl_seconds`, not renewed: the keys attached to it go when it ends.
    async fn lease_grant(&self, ttl_seconds: i64) -> Result<i64, StoreError>;
}
