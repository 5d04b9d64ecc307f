//! The `chaos` command: benchmarks (and later faults and checkers) against real processes through public APIs.

mod bench;
mod check;
mod cluster;
mod failover;
mod faults;
mod history;
mod kube;
mod load;
mod observe;
mod planted;
mod power_loss;
mod random;
mod report;
mod rollout;
mod run;
mod slow_disk;

use clap::{Parser, Subcommand};

/// Workloads, benchmarks and proofs for Xebec and whatever it is compared with.
#[derive(Parser)]
#[command(name = "chaos", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure a running server; prints rates, latencies and the server's CPU time per operation.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Do harm to a cluster by a schedule that a seed decides, and check everything that its clients saw.
    Run(run::RunArgs),
    /// Prove that the checkers find bugs: each of a server's planted bugs must be caught.
    Planted(planted::PlantedArgs),
    /// Kill the leading one of three masters again and again, and measure how long writes and pods wait.
    Failover(failover::FailoverArgs),
    /// Kill the leading master in the middle of a rolling update on real nodes, under requests that must all be answered.
    Rollout(rollout::RolloutArgs),
    /// Record a store's disk, and start stores on what losses of power may leave of it; fails if anything is missing.
    PowerLoss(power_loss::PowerLossArgs),
    /// Slow every member's fsync down under load; fails if the store does not bear it.
    SlowDisk(slow_disk::SlowDiskArgs),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The only provider there is: a second installation is impossible here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse().command {
        Command::Bench(bench) => bench::run(bench).await,
        Command::Run(args) => tokio::task::spawn_blocking(move || run::run(&args)).await?,
        Command::Planted(args) => tokio::task::spawn_blocking(move || planted::run(&args)).await?,
        Command::Failover(args) => {
            tokio::task::spawn_blocking(move || failover::run(&args)).await?
        }
        Command::Rollout(args) => tokio::task::spawn_blocking(move || rollout::run(&args)).await?,
        Command::PowerLoss(args) => {
            tokio::task::spawn_blocking(move || power_loss::run(&args)).await?
        }
        Command::SlowDisk(args) => tokio::task::spawn_blocking(|| slow_disk::run(args)).await?,
    }
}
