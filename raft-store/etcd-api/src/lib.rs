//! etcd's v3 gRPC API in front of the embedded store, so that etcd's clients and tools find what they expect.
//!
//! Translation only: every rule of the data model lies in `raft-store`. One file per service. Auth answers `Unimplemented`.

mod cluster;
mod convert;
mod error;
mod front;
mod kv;
mod lease;
mod maintenance;
mod watch;
mod watcher;

pub use front::Front;
