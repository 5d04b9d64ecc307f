//! The plain request and response types of the store's face.
//!
//! They follow etcd v3's messages in meaning, hold `Bytes`, and know neither protobuf nor Raft nor RocksDB.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A key with its value and etcd's bookkeeping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    /// Revision of the write that created the key's current life.
    pub create_revision: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
    /// Number of writes since creation; 1 on create.
    pub version: i64,
    pub value: Bytes,
    /// Lease the key is attached to, 0 for none.
    pub lease: i64,
}

/// A single key, or all keys in `[key, end)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyRange {
    pub key: Bytes,
    pub end: RangeEnd,
}

/// Where a range ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RangeEnd {
    /// The one key only.
    #[default]
    Single,
    /// Exclusive end; not above the start means empty.
    Before(Bytes),
    /// Every key from the start on.
    Unbounded,
}

impl KeyRange {
    /// Exactly one key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            end: RangeEnd::Single,
        }
    }

    /// All keys that start with `prefix`; an empty prefix means every key.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key: Bytes = prefix.into();
        if key.is_empty() {
            return Self::all();
        }
        let mut end = key.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return Self {
                    key,
                    end: RangeEnd::Before(end.into()),
                };
            }
        }
        Self {
            key,
            end: RangeEnd::Unbounded,
        }
    }

    /// `[key, end)`.
    pub fn span(key: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            end: RangeEnd::Before(end.into()),
        }
    }

    /// Every key.
    pub fn all() -> Self {
        Self {
            key: Bytes::from_static(b"\0"),
            end: RangeEnd::Unbounded,
        }
    }

    /// From etcd's `key` and `range_end`: empty end = single key, `"\0"` = everything from `key` on.
    pub fn from_etcd(key: Bytes, range_end: Bytes) -> Self {
        let end = match range_end.as_ref() {
            b"" => RangeEnd::Single,
            b"\0" => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end),
        };
        Self { key, end }
    }

    /// Whether `key` lies in this range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => self.key == key,
            RangeEnd::Before(end) => self.key.as_ref() <= key && key < end.as_ref(),
            RangeEnd::Unbounded => self.key.as_ref() <= key,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    CreateRevision,
    ModRevision,
    Value,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// Reads keys. Bounds on revisions are inclusive, 0 = none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// Most keys to return, 0 = no limit.
    pub limit: i64,
    /// Read the state as of this revision; 0 or less = newest.
    pub revision: i64,
    pub sort_target: SortTarget,
    pub sort_order: SortOrder,
    /// Answer from this member's state without asking the leader; ignored inside a transaction.
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision when the answer was taken (not the one asked for).
    pub revision: i64,
    pub kvs: Vec<KeyValue>,
    /// `limit` cut the answer short.
    pub more: bool,
    /// Keys in the range, whatever the limit and filters.
    pub count: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    /// 0 = no lease; detaches the one the key had.
    pub lease: i64,
    /// Answer the key's previous state.
    pub prev_kv: bool,
    /// Keep the current value; the key must exist and `value` be empty.
    pub ignore_value: bool,
    /// Keep the current lease; the key must exist and `lease` be 0.
    pub ignore_lease: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    pub revision: i64,
    pub prev_kv: Option<KeyValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    pub range: KeyRange,
    /// Answer the deleted keys.
    pub prev_kv: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    pub revision: i64,
    pub deleted: i64,
    pub prev_kvs: Vec<KeyValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// What a comparison looks at, with the value it is compared to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(Bytes),
    Lease(i64),
}

/// True if every key of the range compares so; a missing single key counts as zero (never for `Value`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub range: KeyRange,
    pub op: CompareOp,
    pub target: CompareTarget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOp {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
}

/// If all of `compare` hold on the state before the transaction, run `success`, else `failure`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<RequestOp>,
    pub failure: Vec<RequestOp>,
    /// Checked first; only the outermost transaction's counts.
    pub fence: Option<Fence>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseOp {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    pub revision: i64,
    /// Whether the comparisons held.
    pub succeeded: bool,
    pub responses: Vec<ResponseOp>,
}

/// A condition on who writes, checked as part of the write; a write whose fence no longer holds has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence(pub(crate) FenceKind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FenceKind {
    /// The write must enter the log in this Raft term.
    Term(u64),
    /// This key must exist with this create revision.
    Key { key: Bytes, create_revision: i64 },
}

impl Fence {
    /// Holds while Raft leadership of `term` lasts (see [`Leadership`]).
    pub fn term(term: u64) -> Self {
        Self(FenceKind::Term(term))
    }

    /// Holds while `key` lives with this create revision.
    pub fn key(key: impl Into<Bytes>, create_revision: i64) -> Self {
        Self(FenceKind::Key {
            key: key.into(),
            create_revision,
        })
    }
}

/// Who leads, as this member sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    /// The leader's member id, if known.
    pub leader: Option<u64>,
    /// This member leads and has applied everything earlier terms left behind.
    pub is_leader: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactResponse {
    pub revision: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseGrantRequest {
    /// 0 = the store chooses.
    pub id: i64,
    /// Asked time to live, seconds; raised to the minimum if below.
    pub ttl: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseGrantResponse {
    pub revision: i64,
    pub id: i64,
    /// Granted time to live, seconds.
    pub ttl: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseRevokeResponse {
    pub revision: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseKeepAliveResponse {
    pub revision: i64,
    pub id: i64,
    /// New time to live, seconds; 0 if the lease does not exist.
    pub ttl: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTimeToLiveResponse {
    pub revision: i64,
    pub id: i64,
    /// Remaining seconds; -1 if the lease does not exist.
    pub ttl: i64,
    pub granted_ttl: i64,
    /// Attached keys, in order, if asked for.
    pub keys: Vec<Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseLeasesResponse {
    pub revision: i64,
    pub ids: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key, shared by all who watch it.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    /// For a delete: only `key` and `mod_revision` are set.
    pub kv: KeyValue,
    /// State before the change. Absent for a create and when compacted; may be there even if nobody asked.
    pub prev_kv: Option<KeyValue>,
    /// Room for a front's encoding of this event (without `prev_kv`), made by the first who needs it.
    pub encoded: OnceLock<Bytes>,
}

impl Event {
    /// A put that created the key.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// First revision to deliver; 0 = from now on (the current revision + 1); may lie in the future.
    pub start_revision: i64,
    /// Fill in `prev_kv` also for events read from history.
    pub prev_kv: bool,
    /// Drop put events.
    pub no_put: bool,
    /// Drop delete events.
    pub no_delete: bool,
    /// Also return batches without events when the revision moved on without this watcher being concerned.
    pub progress: bool,
}

/// Whole revisions, in order, each exactly once.
#[derive(Clone, Debug, Default)]
pub struct WatchBatch {
    /// Everything up to and including this revision has been delivered with this batch.
    pub revision: i64,
    /// Ordered by revision, then by order within the transaction. Never only a part of a revision.
    pub events: Vec<std::sync::Arc<Event>>,
}

/// A digest of the keys and history at a revision, equal on all members with the same floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKvResponse {
    pub revision: i64,
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
}

/// What is wrong with a member. The numbers are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// Its quota or its disk is used up: writes that need space are refused.
    NoSpace = 1,
    /// Its data is damaged or differs from the others': everything is refused.
    Corrupt = 2,
}

impl AlarmKind {
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(AlarmKind::NoSpace),
            2 => Some(AlarmKind::Corrupt),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub member_id: u64,
    pub kind: AlarmKind,
}

/// The alarms that an alarm request concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlarmResponse {
    pub revision: i64,
    pub alarms: Vec<Alarm>,
}

/// What is in a snapshot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// Over all rows.
    pub hash: u32,
    pub revision: i64,
    /// Versions of keys in the history.
    pub total_key: u64,
    /// Bytes of the file.
    pub total_size: u64,
    /// The cluster that it is of.
    pub cluster_id: u64,
}

/// One member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

/// This member at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub cluster_id: u64,
    pub member_id: u64,
    pub leader: Option<u64>,
    pub is_learner: bool,
    pub raft_term: u64,
    pub raft_index: u64,
    pub raft_committed_index: u64,
    pub raft_applied_index: u64,
    pub revision: i64,
    pub compacted_revision: i64,
    /// Bytes of the data directory's state.
    pub db_size: u64,
    /// Bytes of live data in it (an estimate).
    pub db_size_in_use: u64,
    pub members: Vec<Member>,
}
