//! `chaos slow-disk`: a store under load while every member's fsync is delayed, more and more, and then not any more.
//!
//! It fails if a put is refused or a leader changes at 50 or 200 ms, if an acknowledged put is lost at any delay, if reads
//! stop, or if the store is not back soon after the disk is.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use xebec_proto::etcdserverpb as pb;

use crate::bench::store::{Client, Server, Start};

/// The disk's delay, and whether the store must go on as if nothing were.
const STEPS: &[(u64, bool)] = &[(0, true), (50, true), (200, true), (1000, false)];
const BACK_LIMIT: Duration = Duration::from_secs(5);
/// A serializable read needs no disk.
const READ_LIMIT: Duration = Duration::from_secs(1);

#[derive(Args, Clone)]
pub struct SlowDiskArgs {
    /// The server: NAME=PROGRAM.
    #[arg(long, value_name = "NAME=PROGRAM", default_value = "xebec")]
    start: Start,
    /// Members of the cluster.
    #[arg(long, default_value_t = 1)]
    members: u16,
    /// The library that delays fsync (package slow-fsync).
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/release/libslow_fsync.so"
    )]
    shim: PathBuf,
    #[arg(long, value_name = "DIR", default_value = "slow-disk")]
    data_dir: PathBuf,
    /// Length of each step.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 50)]
    clients: usize,
}

/// What the clients saw; shared by all.
#[derive(Default)]
struct Seen {
    stopping: Cell<bool>,
    acknowledged: Cell<u64>,
    refused: RefCell<HashMap<String, u64>>,
    reads: Cell<u64>,
    slowest_read: Cell<Duration>,
    linearizable_reads: Cell<u64>,
    slowest_linearizable: Cell<Duration>,
    /// The newest acknowledged number of each client.
    newest: RefCell<HashMap<usize, u64>>,
}

pub fn run(args: SlowDiskArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, prove(&args))
}

async fn prove(args: &SlowDiskArgs) -> Result<()> {
    std::fs::create_dir_all(&args.data_dir)?;
    let delay = std::path::absolute(args.data_dir.join("delay"))?;
    set(&delay, 0)?;
    let shim = args.shim.canonicalize();
    let shim =
        shim.with_context(|| format!("{}: build the package slow-fsync", args.shim.display()))?;
    let environment = [("LD_PRELOAD", shim), ("SLOW_FSYNC_FILE", delay.clone())];
    let server = args
        .start
        .start(&args.data_dir, args.members, &[], &environment)
        .await?;
    let seen = Rc::new(Seen::default());
    let mut tasks = JoinSet::new();
    let clients = server.connect(usize::from(args.members) * 2).await?;
    for number in 0..args.clients {
        let client = clients[number % clients.len()].clone();
        tasks.spawn_local(write(number, client, seen.clone()));
    }
    for serializable in [true, false] {
        tasks.spawn_local(read(clients[0].clone(), seen.clone(), serializable));
    }
    let mut failures = Vec::new();
    for &(millis, calm) in STEPS {
        set(&delay, millis)?;
        let step = step(&server, &seen, args.seconds).await?;
        println!("fsync + {millis} ms: {step}");
        if calm && (step.refused > 0 || step.elections != 0) {
            failures.push(format!("{millis} ms: {step}"));
        }
        if step.reads == 0 || step.slowest_read > READ_LIMIT {
            failures.push(format!("{millis} ms: reads stopped: {step}"));
        }
    }
    set(&delay, 0)?;
    let back = back(&server).await?;
    println!("a put is answered {back:?} after the disk is well again");
    if back > BACK_LIMIT {
        failures.push(format!("back only after {back:?}"));
    }
    seen.stopping.set(true);
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    for (text, count) in seen.refused.borrow().iter() {
        println!("refused or unknown {count} times: {text}");
    }
    check_all(&server, &seen).await?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Written as a whole, so that the library never reads half a number.
fn set(file: &Path, millis: u64) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, millis.to_string())?;
    Ok(std::fs::rename(new, file)?)
}

struct Step {
    acknowledged: u64,
    refused: u64,
    reads: u64,
    slowest_read: Duration,
    linearizable_reads: u64,
    slowest_linearizable: Duration,
    elections: u64,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} puts, {} refused or unknown, {} reads (slowest {:?}), {} linearizable (slowest {:?}), {} elections",
            self.acknowledged,
            self.refused,
            self.reads,
            self.slowest_read,
            self.linearizable_reads,
            self.slowest_linearizable,
            self.elections
        )
    }
}

async fn term(server: &Server) -> Result<u64> {
    let client = &server.connect(1).await?[0];
    Ok(client.status().await?.raft_term)
}

async fn step(server: &Server, seen: &Seen, seconds: f64) -> Result<Step> {
    let refused = || seen.refused.borrow().values().sum::<u64>();
    let before = (
        seen.acknowledged.get(),
        refused(),
        seen.reads.get(),
        seen.linearizable_reads.get(),
        term(server).await?,
    );
    seen.slowest_read.set(Duration::ZERO);
    seen.slowest_linearizable.set(Duration::ZERO);
    sleep_until(Instant::now() + Duration::from_secs_f64(seconds)).await;
    Ok(Step {
        acknowledged: seen.acknowledged.get() - before.0,
        refused: refused() - before.1,
        reads: seen.reads.get() - before.2,
        slowest_read: seen.slowest_read.get(),
        linearizable_reads: seen.linearizable_reads.get() - before.3,
        slowest_linearizable: seen.slowest_linearizable.get(),
        elections: term(server).await? - before.4,
    })
}

/// How long a put takes that begins now, failures before it included.
async fn back(server: &Server) -> Result<Duration> {
    let start = Instant::now();
    let client = &server.connect(1).await?[0];
    loop {
        let request = put("back", 0);
        match client.put(&request).await {
            Ok(_) => return Ok(start.elapsed()),
            Err(error) => ensure!(start.elapsed() < 4 * BACK_LIMIT, "not back: {error:#}"),
        }
    }
}

fn put(key: &str, number: u64) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: format!("{number:020}").into(),
        ..Default::default()
    }
}

fn key(client: usize) -> String {
    format!("/slow/{client:04}")
}

async fn write(number: usize, client: Client, seen: Rc<Seen>) -> Result<()> {
    for value in 1.. {
        if seen.stopping.get() {
            break;
        }
        match client.put(&put(&key(number), value)).await {
            Ok(_) => {
                seen.acknowledged.set(seen.acknowledged.get() + 1);
                seen.newest.borrow_mut().insert(number, value);
            }
            Err(error) => {
                *seen
                    .refused
                    .borrow_mut()
                    .entry(format!("{error:#}"))
                    .or_default() += 1;
            }
        }
    }
    Ok(())
}

async fn read(client: Client, seen: Rc<Seen>, serializable: bool) -> Result<()> {
    let request = pb::RangeRequest {
        key: key(0).into(),
        serializable,
        ..Default::default()
    };
    let (count, slowest) = match serializable {
        true => (&seen.reads, &seen.slowest_read),
        false => (&seen.linearizable_reads, &seen.slowest_linearizable),
    };
    while !seen.stopping.get() {
        let start = Instant::now();
        match client.range(&request).await {
            Ok(_) => count.set(count.get() + 1),
            // It needs a majority: where there is none for long, the server says so.
            Err(_) if !serializable => {}
            Err(error) => return Err(error),
        }
        slowest.set(slowest.get().max(start.elapsed()));
        // One reader that never rests would be a load of its own.
        sleep_until(start + Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Nothing that was acknowledged may be missing.
async fn check_all(server: &Server, seen: &Seen) -> Result<()> {
    let client = &server.connect(1).await?[0];
    let newest = seen.newest.borrow().clone();
    for (number, expect) in newest {
        let request = pb::RangeRequest {
            key: key(number).into(),
            ..Default::default()
        };
        let answer = client.range(&request).await?;
        let kv = answer.kvs.first().context("an acknowledged put is lost")?;
        let found: u64 = std::str::from_utf8(&kv.value)?.parse()?;
        ensure!(
            found >= expect,
            "{}: {found} is older than the acknowledged {expect}",
            key(number)
        );
    }
    Ok(())
}
