//! How a store is opened: its typed configuration and what can go wrong on the way.
//!
//! Must not know: flags, environment, files (the binary reads those).

use std::path::PathBuf;
use std::time::Duration;

use crate::limits;

/// Everything one member needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory that holds this member's log and state; created if missing.
    pub data_dir: PathBuf,
    /// Human-readable name of the member.
    pub name: String,
    /// URLs under which other members reach this one.
    pub peer_urls: Vec<String>,
    /// URLs that clients are told.
    pub client_urls: Vec<String>,
    /// Refuse a directory of another cluster, if known from elsewhere.
    pub expected_cluster_id: Option<u64>,
    pub heartbeat: Duration,
    pub election_timeout: Duration,
    /// Largest write request, bytes.
    pub max_request_bytes: usize,
    /// Most operations in a transaction.
    pub max_txn_ops: usize,
    /// Size of the state above which writes that need space are refused; 0 = no quota.
    pub quota_backend_bytes: u64,
    /// Free space of the disk below which they are refused, too; 0 = do not look.
    pub disk_reserve_bytes: u64,
    pub block_cache_bytes: usize,
    pub watch_ring_bytes: usize,
}

impl Config {
    /// Defaults for a member whose data lives in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            name: "default".to_owned(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            expected_cluster_id: None,
            heartbeat: limits::HEARTBEAT,
            election_timeout: limits::ELECTION_TIMEOUT,
            max_request_bytes: limits::MAX_REQUEST_BYTES,
            max_txn_ops: limits::MAX_TXN_OPS,
            quota_backend_bytes: limits::QUOTA_BACKEND_BYTES,
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES,
            block_cache_bytes: limits::BLOCK_CACHE_BYTES,
            watch_ring_bytes: limits::WATCH_RING_BYTES,
        }
    }

    /// How long a request may wait for the cluster to agree on it, as in etcd.
    pub fn request_timeout(&self) -> Duration {
        limits::REQUEST_TIMEOUT + 2 * self.election_timeout
    }

    /// Shortest lease the store grants, seconds: 1.5 election timeouts, rounded up, as etcd does.
    pub fn min_lease_ttl_seconds(&self) -> i64 {
        let millis = self.election_timeout.as_millis() as i64 * 3 / 2;
        (millis + 999) / 1000
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the data directory {}: {source}", .path.display())]
    DataDir {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the data directory {} is in use by another process", .path.display())]
    Locked { path: PathBuf },
    #[error("the data directory {} belongs to cluster {found:x}, not {expected:x}", .path.display())]
    OtherCluster {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error("the data directory {} is not a store's: it holds {entry:?}", .path.display())]
    NotAStore { path: PathBuf, entry: String },
    #[error("the data directory {} has format {found}, this program reads format {supported}", .path.display())]
    Format {
        path: PathBuf,
        found: String,
        supported: u32,
    },
    #[error("the log is damaged: {}: offset {offset}: {reason}", .file.display())]
    LogCorrupt {
        file: PathBuf,
        offset: u64,
        reason: String,
    },
    #[error("reading or writing the log failed: {0}")]
    Log(#[source] std::io::Error),
    #[error("the state database failed: {0}")]
    State(String),
    #[error("Raft failed to start: {0}")]
    Raft(String),
}
