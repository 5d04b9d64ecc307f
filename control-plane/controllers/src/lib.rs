//! controllers: the loops that bring the cluster's state closer to what its objects ask for.
//!
//! Each controller is one file (or folder) and one row in `table`. It takes no input but the state that the shared
//! informers show, decides in a pure function, and writes through the API as its own identity. This crate knows neither
//! the API server's code nor the store.

mod bootstrap;
mod certificates;
mod context;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod error;
mod garbage_collector;
mod job;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod options;
mod pod_gc;
mod replicas;
mod resources;
mod root_ca;
mod runtime;
mod service_account;
mod services;
mod stateful_set;
mod support;
mod table;
mod taint_eviction;
mod ttl_after_finished;

pub use options::{AddressBlock, InvalidAddressBlock, Options, SigningAuthority};
pub use runtime::run_all;
