//! Benchmarks: one file per server under test, and what they share.

mod api;
mod connection;
mod cpu;
mod kubeconfig;
mod measure;
mod schedule;
mod watch;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Bench {
    /// Any Kubernetes API server: create, get, update, patch, list, watch fan-out, delete, schedule.
    Api(api::ApiArgs),
}

pub async fn run(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Api(args) => api::run(args).await,
    }
}
