//! The `chaos` command: benchmarks (and later faults and checkers) against real processes through public APIs.

mod bench;
mod check;
mod cluster;
mod faults;
mod history;
mod load;
mod observe;
mod random;
mod report;
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
        Command::SlowDisk(args) => tokio::task::spawn_blocking(|| slow_disk::run(args)).await?,
    }
}
