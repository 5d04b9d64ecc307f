//! `bench store`: servers of etcd's v3 API side by side, driven by one load generator in one run.
//!
//! Rounds of the servers alternate, so that whatever else happens on the machine hits all of them; what is printed are
//! medians over the rounds. Must not know what a server is made of.

mod cases;
mod churn;
mod client;
mod hpack;
mod load;
mod report;
mod server;
mod watch;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::time::{Instant, sleep};

use super::cpu;
use cases::{CASES, Case, Kind};
pub use client::{Client, Stream, says_it_leads};
use load::Pace;
use report::{Figures, Footprint};
use server::{Peer, Role};
pub use server::{Server, Start};

/// How much of the first server's highest rate the open loop asks for.
const OPEN_LOOP_SHARE: f64 = 0.8;
/// Servers are left alone this long after start and load, before a resting footprint counts.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args, Clone)]
pub struct StoreArgs {
    /// A cluster that runs already: NAME=http://HOST:PORT[,URL…]. May be repeated.
    #[arg(long, value_name = "NAME=URLS")]
    peer: Vec<Peer>,
    /// Process of such a cluster, for its CPU time: NAME=PID. May be repeated.
    #[arg(long, value_name = "NAME=PID", value_parser = parse_pid)]
    pid: Vec<(String, u32)>,
    /// A server to start here: NAME[=PROGRAM], e.g. etcd, xebec=target/release/xebec. May be repeated; the first server
    /// is what the others are compared with.
    #[arg(long, value_name = "NAME=PROGRAM")]
    start: Vec<Start>,
    /// Members of each started cluster.
    #[arg(long, default_value_t = 1)]
    members: u16,
    /// The member that the first client talks to, at every server; the others go round the members from there.
    #[arg(long, value_name = "ROLE", default_value = "leader")]
    first_client: Role,
    /// A flag for every started server that is no etcd. May be repeated.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    flag: Vec<String>,
    /// Where the started servers keep their data and logs: a real disk, with fsync as it is.
    #[arg(long, value_name = "DIR", default_value = "bench-store")]
    data_dir: PathBuf,
    /// Only these cases, e.g. put-1,get-100,idle,churn.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds of each case; servers take turns.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of a round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How long the servers are watched at rest.
    #[arg(long, default_value_t = 10.0)]
    idle_seconds: f64,
    /// Updates of the churn case; 5000000 is the long form.
    #[arg(long, default_value_t = 500_000)]
    churn_updates: u64,
    /// History is cut off this often while it churns; 60 in the long form.
    #[arg(long, default_value_t = 5.0)]
    churn_compact_seconds: f64,
}

fn parse_pid(text: &str) -> Result<(String, u32)> {
    let (name, pid) = text.split_once('=').context("NAME=PID is wanted")?;
    Ok((name.to_owned(), pid.parse()?))
}

/// Runs everything on the calling thread alone.
pub fn run(args: StoreArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let all = async {
        tokio::select! {
            done = measure(&args) => done,
            // The servers that were started end with this.
            stop = tokio::signal::ctrl_c() => stop.map_err(Into::into),
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, all)
}

async fn servers(args: &StoreArgs) -> Result<Vec<Server>> {
    let mut servers: Vec<Server> = args
        .peer
        .iter()
        .map(|peer| peer.clone().server(&args.pid))
        .collect();
    std::fs::create_dir_all(&args.data_dir)?;
    for start in &args.start {
        let server = start.start(&args.data_dir, args.members, &args.flag, &[]);
        servers.push(server.await?);
    }
    if servers.is_empty() {
        bail!("nothing to measure: give --peer or --start");
    }
    for server in &mut servers {
        let ordered = server.begin_at(args.first_client).await;
        ordered.with_context(|| server.name.clone())?;
    }
    Ok(servers)
}

impl StoreArgs {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

async fn measure(args: &StoreArgs) -> Result<()> {
    let servers = servers(args).await?;
    if args.wants("idle") {
        report::print_footprints("at rest, new", &rest(&servers, args.idle_seconds).await?);
    }
    for server in &servers {
        cases::fill(server).await?;
    }
    let mut results = Vec::new();
    let mut highest = None;
    for case in CASES.iter().filter(|case| args.wants(case.name)) {
        if case.kind == Kind::OpenLoop && highest.is_none() {
            let base = Case {
                kind: Kind::Put,
                ..*case
            };
            let found = rounds(&base, &servers[..1], args, None).await?;
            highest = Some(found[0].1.rate);
        }
        let rate = highest
            .filter(|_| case.kind == Kind::OpenLoop)
            .map(|rate| rate * OPEN_LOOP_SHARE);
        let found = rounds(case, &servers, args, rate).await?;
        if case.name == "put-100" {
            highest = Some(found[0].1.rate);
        }
        eprintln!("{}: {found:?}", case.name);
        results.push((case.name.to_owned(), found));
    }
    if !results.is_empty() {
        report::print_cases(&results);
    }
    if args.wants("idle") && !results.is_empty() {
        report::print_footprints(
            "at rest, after the load",
            &rest(&servers, args.idle_seconds).await?,
        );
    }
    if args.wants("churn") {
        let mut found = Vec::new();
        for server in &servers {
            let every = Duration::from_secs_f64(args.churn_compact_seconds);
            let churn = churn::run(server, args.churn_updates, every).await;
            found.push((
                server.name.clone(),
                churn.with_context(|| server.name.clone())?,
            ));
        }
        report::print_churn(&found);
    }
    Ok(())
}

/// The medians of one case at each server.
async fn rounds(
    case: &Case,
    servers: &[Server],
    args: &StoreArgs,
    rate: Option<f64>,
) -> Result<Vec<(String, Figures)>> {
    let pace = Pace {
        duration: Duration::from_secs_f64(args.seconds),
        rate,
    };
    let mut samples = vec![Vec::new(); servers.len()];
    for _ in 0..args.rounds.max(1) {
        for (server, samples) in servers.iter().zip(&mut samples) {
            let sample = case.run(server, pace).await;
            samples.push(sample.with_context(|| format!("{} at {}", case.name, server.name))?);
        }
    }
    let names = servers.iter().map(|server| server.name.clone());
    Ok(names
        .zip(samples.iter().map(|samples| Figures::of(samples)))
        .collect())
}

async fn rest(servers: &[Server], seconds: f64) -> Result<Vec<(String, Footprint)>> {
    sleep(SETTLE).await;
    let before: Vec<Duration> = servers
        .iter()
        .map(|server| cpu::cpu_time(&server.pids))
        .collect::<Result<_>>()?;
    let start = Instant::now();
    sleep(Duration::from_secs_f64(seconds)).await;
    let mut found = Vec::new();
    for (server, before) in servers.iter().zip(before) {
        let used = cpu::cpu_time(&server.pids)?.saturating_sub(before);
        let footprint = Footprint {
            resident_bytes: cpu::resident(&server.pids)?,
            cpu: used.as_secs_f64() / start.elapsed().as_secs_f64(),
        };
        found.push((server.name.clone(), footprint));
    }
    Ok(found)
}
