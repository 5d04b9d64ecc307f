//! etcd's v3 API in front of the embedded store, so that etcd's clients and tools find what they expect: gRPC, and on the
//! same port HTTP with the JSON gateway, health and metrics.
//!
//! Translation only: every rule of the data model lies in `raft-store`. One file per service.

mod auth;
#[cfg(test)]
mod auth_test;
mod authority;
mod cluster;
mod connection;
mod convert;
mod cork;
mod dispatch;
mod election;
mod error;
mod framing;
mod front;
#[doc(hidden)]
pub mod fuzz;
mod gateway;
mod grpc_health;
mod health;
mod keepalive;
mod kv;
mod lease;
mod limits;
mod lock;
mod maintenance;
#[cfg(test)]
mod maintenance_test;
mod methods;
mod metrics;
mod metrics_page;
mod queue;
mod relay;
mod serve;
mod splice;
#[cfg(test)]
mod testing;
mod threads;
mod tls;
mod unary;
mod until;
mod watch;
#[cfg(test)]
mod watch_test;
mod watcher;
mod while_led;

pub use front::{Front, Options};
pub use serve::ServeError;
pub use tls::{TlsError, TlsFiles};
