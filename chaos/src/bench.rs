//! Benchmarks: one file per server under test, and what they share.

mod api;
mod connection;
mod cpu;
mod kubeconfig;
mod measure;
mod schedule;
pub mod store;
mod watch;

use clap::Subcommand;

pub use connection::Connection;
pub use kubeconfig::Kubeconfig;

#[derive(Subcommand)]
pub enum Bench {
    /// Any Kubernetes API server: create, get, update, patch, list, watch fan-out, delete, schedule.
    Api(api::ApiArgs),
    /// Any servers of etcd's v3 API, one beside the other: puts, gets, ranges, transactions, watches, churn.
    Store(store::StoreArgs),
}

pub async fn run(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Api(args) => api::run(args).await,
        // One thread of its own: the load generator shall leave the machine to the servers.
        Bench::Store(args) => tokio::task::spawn_blocking(|| store::run(args)).await?,
    }
}
