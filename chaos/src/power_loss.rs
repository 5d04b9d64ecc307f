//! `chaos power-loss`: a store's disk is recorded while clients write and the store is killed and started again; then, for
//! many moments of the record, a disk is made as a loss of power in that moment may leave it, and a store is started on it.
//!
//! It fails if a store does not start, if it lacks what was acknowledged before that moment, or if it has what nobody wrote.

mod alone;
mod clients;
mod disk;
mod points;
mod record;
mod trace;
mod transfer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::bench::store::Client;
use crate::cluster::{Cluster, Level, Setting, tail};
use crate::run::{beside, in_one_thread};

/// How long a store may take to start on what a loss of power has left.
const START_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args, Clone)]
pub struct PowerLossArgs {
    /// Moments at which a store that is alone loses power.
    #[arg(long, default_value_t = 200)]
    points: usize,
    /// Moments at which a member does that takes over the state of others.
    #[arg(long, default_value_t = 50)]
    transfer_points: usize,
    /// What clients write before each kill, stop or start of a member, MiB.
    #[arg(long, default_value_t = 40)]
    megabytes: u64,
    /// Decides what is written and what is lost.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The store: a program that takes etcd's flags [default: `xebec` beside this program].
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The library that records (package disk-trace) [default: beside this program].
    #[arg(long, value_name = "FILE")]
    shim: Option<PathBuf>,
    /// Members' data and logs lie here. What was there is removed.
    #[arg(long, value_name = "DIR", default_value = "power-loss")]
    data_dir: PathBuf,
}

pub fn run(args: &PowerLossArgs) -> Result<()> {
    in_one_thread(async {
        if args.points > 0 {
            alone::prove(args).await?;
        }
        if args.transfer_points > 0 {
            transfer::prove(args).await?;
        }
        Ok(())
    })
}

impl PowerLossArgs {
    fn shim(&self) -> Result<PathBuf> {
        built(self.shim.as_ref(), "libdisk_trace.so")
    }
}

fn built(given: Option<&PathBuf>, name: &str) -> Result<PathBuf> {
    let file = given.map_or_else(|| beside(name), |given| Ok(given.clone()))?;
    let found = file.canonicalize();
    found.with_context(|| format!("{}: build it first", file.display()))
}

/// Waits until the member that was just started answers; it must not end.
async fn await_start(cluster: &mut Cluster, number: usize) -> Result<()> {
    let ready = Client::wait_ready(&cluster.urls()[number], START_LIMIT).await;
    let member = &mut cluster.members[number];
    let runs = member.runs()?;
    ensure!(runs, "{} has ended:\n{}", member.name, tail(&member.log()));
    ready
}

fn setting(args: &PowerLossArgs, members: usize, folder: &str) -> Result<Setting> {
    std::fs::create_dir_all(&args.data_dir)?;
    Ok(Setting {
        level: Level::Store,
        program: built(args.program.as_ref(), "xebec")?,
        upgrade_to: None,
        members,
        agents: 0,
        folder: std::path::absolute(args.data_dir.join(folder))?,
        loopback: true,
        slow_fsync: None,
        clock_offset: None,
        disk_bytes: None,
        environment: Vec::new(),
    })
}
