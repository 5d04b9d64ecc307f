//! How a store is opened: its typed configuration and what can go wrong on the way.
//!
//! Must not know: flags, environment, files (the binary reads those).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::limits;
use crate::peer::{PeerNetwork, PeerTls};

/// How a member without data begins: a list of names and peer URLs is that of etcd's `--initial-cluster`, a name
/// with several URLs comes several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bootstrap {
    /// Founds a cluster of its own, with ids chosen by chance.
    #[default]
    Alone,
    /// Founds a cluster with others, which are given the same list and token.
    Static {
        members: Vec<(String, String)>,
        token: String,
    },
    /// Joins a cluster that has added it: one of `members` is asked who it is, by its peer URLs.
    Existing { members: Vec<(String, String)> },
}

/// Everything one member needs to start.
#[derive(Clone)]
pub struct Config {
    /// Directory that holds this member's log and state; created if missing.
    pub data_dir: PathBuf,
    /// Human-readable name of the member.
    pub name: String,
    /// URLs under which other members reach this one.
    pub peer_urls: Vec<String>,
    /// Whether `peer_urls` hold for a member with data as well: it tells the others that it has moved. etcd keeps what
    /// the cluster knows.
    pub peer_urls_may_change: bool,
    /// URLs to listen on for other members; none for a member that stays alone.
    pub listen_peer_urls: Vec<String>,
    /// What a member without data does. Of no concern to one that has data.
    pub bootstrap: Bootstrap,
    /// How other members are reached; by default over TCP, with TLS where URLs say so and `peer_tls` has the files.
    pub peer_network: Option<Arc<dyn PeerNetwork>>,
    pub peer_tls: PeerTls,
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
    /// Size of one file of the log, bytes. Some of them are kept for members that were away.
    pub log_segment_bytes: u64,
    pub watch_ring_bytes: usize,
}

impl Config {
    /// Defaults for a member whose data lives in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            name: "default".to_owned(),
            peer_urls: Vec::new(),
            peer_urls_may_change: false,
            listen_peer_urls: Vec::new(),
            bootstrap: Bootstrap::Alone,
            peer_network: None,
            peer_tls: PeerTls::default(),
            client_urls: Vec::new(),
            expected_cluster_id: None,
            heartbeat: limits::HEARTBEAT,
            election_timeout: limits::ELECTION_TIMEOUT,
            max_request_bytes: limits::MAX_REQUEST_BYTES,
            max_txn_ops: limits::MAX_TXN_OPS,
            quota_backend_bytes: limits::QUOTA_BACKEND_BYTES,
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES,
            block_cache_bytes: limits::BLOCK_CACHE_BYTES,
            log_segment_bytes: limits::LOG_SEGMENT_BYTES,
            watch_ring_bytes: limits::WATCH_RING_BYTES,
        }
    }

    /// How long a request may wait for the cluster to agree on it, as in etcd.
    pub fn request_timeout(&self) -> Duration {
        limits::REQUEST_TIMEOUT + 2 * self.election_timeout
    }

    /// After how long without an answer of a quorum a leader no longer tells its clients that it leads. etcd's steps down
    /// after one to two election timeouts.
    pub fn quorum_silence(&self) -> Duration {
        2 * self.election_timeout
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
    #[error("cannot listen on {url} for other members: {source}")]
    Listen { url: String, source: std::io::Error },
    #[error("the initial cluster is wrong: {0}")]
    InitialCluster(String),
    #[error("member {id:x} has already been bootstrapped: the data that was in {} is lost; remove the member and add it again", .path.display())]
    AlreadyBootstrapped { id: u64, path: PathBuf },
    #[error("member {id:x} has been permanently removed from the cluster")]
    Removed { id: u64 },
    #[error("none of the cluster's members answered: {}", .urls.join(", "))]
    NoCluster { urls: Vec<String> },
    #[error("the cluster has no member with the peer URLs {}: add it first", .urls.join(", "))]
    NotAdded { urls: Vec<String> },
    #[error("Raft failed to start: {0}")]
    Raft(String),
}
