//! What a request to the store can fail with: etcd's own texts and gRPC codes.
//!
//! Clients tell errors apart by these exact strings (etcd's `rpctypes`), so they are part of the interface.

use serde::{Deserialize, Serialize};

/// The gRPC status codes the store uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidArgument,
    NotFound,
    FailedPrecondition,
    OutOfRange,
    ResourceExhausted,
    Unavailable,
    /// The outcome of a write is not known.
    Unknown,
    Aborted,
    DataLoss,
    Unimplemented,
}

/// A request that was refused, or whose outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted { compact_revision: i64 },
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision { revision: i64 },
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// A member has raised the CORRUPT alarm.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("mvcc: watcher range is empty")]
    EmptyWatchRange,
    #[error("etcdserver: no leader")]
    NoLeader,
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    #[error("etcdserver: not leader")]
    NotLeader { leader: Option<u64> },
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The leader was lost while the request was under way: whether it took effect is not known.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailed,
    /// The member has no connection to the leader, or the leader none to a quorum: the outcome is not known.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// This member lags behind the leader.
    #[error("etcdserver: request timed out, waiting for the applied index took too long")]
    TimeoutApplied,
    #[error("etcdserver: the member has been permanently removed from the cluster")]
    MemberRemoved,
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    #[error("etcdserver: member not found")]
    MemberNotFound,
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    #[error("etcdserver: given member URLs are invalid")]
    InvalidMemberUrls,
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    #[error("etcdserver: rpc not supported for learner")]
    NotForLearners,
    #[error("etcdserver: cluster ID mismatch")]
    ClusterIdMismatch,
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The write's fence does not hold: whoever wrote has lost its leadership. Nothing was changed.
    #[error("the write's fence no longer holds")]
    Fenced,
    /// The write entered the log of a leader that is gone; it may or may not take effect.
    #[error("the outcome of the request is unknown: {0}")]
    OutcomeUnknown(String),
    /// The state on disk could not be read.
    #[error("reading the store failed: {0}")]
    Storage(String),
}

impl Error {
    /// The gRPC code etcd answers with.
    pub fn code(&self) -> Code {
        match self {
            Error::EmptyKey
            | Error::KeyNotFound
            | Error::ValueProvided
            | Error::LeaseProvided
            | Error::TooManyOps
            | Error::DuplicateKey
            | Error::InvalidSortOption
            | Error::EmptyWatchRange
            | Error::InvalidMemberUrls
            | Error::RequestTooLarge => Code::InvalidArgument,
            Error::Compacted { .. } | Error::FutureRevision { .. } | Error::LeaseTtlTooLarge => {
                Code::OutOfRange
            }
            Error::NoSpace | Error::TooManyRequests => Code::ResourceExhausted,
            Error::LeaseNotFound | Error::MemberNotFound => Code::NotFound,
            Error::LeaseExists
            | Error::NotLeader { .. }
            | Error::MemberExists
            | Error::PeerUrlExists
            | Error::NotEnoughStarted
            | Error::MemberNotLearner
            | Error::LearnerNotReady
            | Error::TooManyLearners
            | Error::BadLeaderTransferee
            | Error::NotForLearners
            | Error::ClusterIdMismatch => Code::FailedPrecondition,
            Error::Fenced => Code::Aborted,
            Error::NoLeader
            | Error::LeaderChanged
            | Error::Timeout
            | Error::TimeoutLeaderFailed
            | Error::TimeoutConnectionLost
            | Error::TimeoutApplied
            | Error::MemberRemoved
            | Error::Unhealthy
            | Error::Stopped => Code::Unavailable,
            Error::OutcomeUnknown(_) => Code::Unknown,
            Error::Corrupt | Error::Storage(_) => Code::DataLoss,
        }
    }

    /// Whether every member would answer the same: an outcome of apply, not of this moment or machine.
    pub fn is_deterministic(&self) -> bool {
        !matches!(
            self,
            Error::TooManyRequests
                | Error::NoLeader
                | Error::LeaderChanged
                | Error::NotLeader { .. }
                | Error::Timeout
                | Error::TimeoutLeaderFailed
                | Error::TimeoutConnectionLost
                | Error::TimeoutApplied
                | Error::MemberRemoved
                | Error::Unhealthy
                | Error::Stopped
                | Error::OutcomeUnknown(_)
                | Error::Storage(_)
        )
    }
}

/// Why a watcher ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Events after the watcher's position were compacted away; watch again from `compact_revision`.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted { compact_revision: i64 },
    /// The store was shut down.
    #[error("etcdserver: server stopped")]
    Closed,
    /// History could not be read.
    #[error("reading the store failed: {0}")]
    Storage(String),
}
