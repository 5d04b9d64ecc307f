//! A replicated multi-version key-value store: etcd's data model over Raft (openraft) and RocksDB.
//!
//! This file is the crate's face. The store knows bytes, revisions and leases; it must not know Kubernetes, nor
//! gRPC (a front translates). No type of openraft or RocksDB leaves this crate.

mod codec;
mod command;
mod config;
mod data_dir;
mod engine;
mod error;
mod fatal;
#[doc(hidden)]
pub mod fault;
#[doc(hidden)]
pub mod fuzz;
pub mod limits;
mod log;
mod metrics;
mod mvcc;
mod peer;
mod planted;
mod raft;
mod refound;
mod request_size;
mod snapshot;
mod store;
mod threads;
mod types;
mod watch;

pub use config::{Bootstrap, Config, OpenError};
pub use error::{Code, Error, WatchError};
pub use metrics::Metrics;
pub use peer::{PeerListener, PeerNetwork, PeerStream, PeerTls, Tcp};
pub use refound::{RestoreError, RestoreOptions, force_new_cluster, restore, snapshot_status};
pub use snapshot::{SnapshotError, SnapshotStream};
pub use store::{AutoCompaction, Store};
pub use types::*;
pub use watch::Watcher;
