//! `chaos run`: a cluster, a workload, faults by a seeded schedule, and the verdict on everything that was recorded.

pub mod end;
mod text;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::check::{self, Verdict};
use crate::cluster::{Cluster, Level, Setting, can_delay};
use crate::faults::{Kind, Needs, Nemesis, heal, schedule};
use crate::history::History;
use crate::kube;
use crate::load::{self, Pace, Shared};
use crate::observe::{Observed, watch_leader};
use crate::random::Random;
use crate::report;

#[derive(Args, Clone)]
pub struct RunArgs {
    /// How long faults go on.
    #[arg(long, default_value_t = 3.0)]
    pub minutes: f64,
    /// What the members are, and so what clients do.
    #[arg(long, value_enum, default_value_t = Level::Store)]
    pub level: Level,
    /// Which faults: names separated by commas, or `mixed` for all that this machine can do.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "mixed"
    )]
    pub faults: Vec<String>,
    /// Decides the schedule of faults; a fresh one if none is given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The server: a program that takes etcd's flags [default: `xebec` beside this program].
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// A newer server: each member runs it from its first rolling restart on, as in an upgrade.
    #[arg(long, value_name = "FILE")]
    pub upgrade_to: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    pub members: usize,
    /// Members' data and logs lie here, and the history if it is wrong. What was there is removed.
    #[arg(long, value_name = "DIR", default_value = "chaos-run")]
    pub data_dir: PathBuf,
    /// Run members on loopback, without faults of the network, even if this may make namespaces.
    #[arg(long)]
    pub loopback: bool,
    /// A variable for the members' environment: NAME=VALUE. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub environment: Vec<(String, String)>,
    /// Write a report here: one HTML page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Clients at registers, lists and pairs.
    #[arg(long, default_value_t = 10)]
    pub clients: u32,
    /// Calls per second of all clients, at most.
    #[arg(long, default_value_t = 300.0)]
    pub rate: f64,
}

fn variable(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A run that is over.
pub struct Run {
    pub seed: u64,
    pub members: usize,
    pub left_out: Vec<String>,
    pub observed: Observed,
    pub history: History,
    pub verdicts: Vec<Verdict>,
    pub length: Duration,
}

impl Run {
    pub fn holds(&self) -> bool {
        self.verdicts
            .iter()
            .all(|verdict| verdict.violations.is_empty())
    }
}

pub fn run(args: &RunArgs) -> Result<()> {
    in_one_thread(run_and_judge(args))
}

/// Runs everything on the calling thread alone, until it is done or interrupted.
pub fn in_one_thread(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let all = async {
        tokio::select! {
            done = work => done,
            // The members that were started end with this.
            stop = tokio::signal::ctrl_c() => stop.map_err(Into::into),
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, all)
}

async fn run_and_judge(args: &RunArgs) -> Result<()> {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    println!("seed {seed}");
    let run = perform(args, seed).await?;
    text::print(&run);
    if let Some(file) = &args.report {
        std::fs::write(file, report::page(&run, &args.command(seed)))?;
        println!("the report is in {}", file.display());
    }
    if !run.holds() {
        let file = args.data_dir.join("history.jsonl");
        end::save(&run.history, &file)?;
        let again = args.command(seed);
        bail!(
            "what was promised does not hold; the history is in {}; again: {again}",
            file.display()
        );
    }
    Ok(())
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Short enough to be typed.
    now.map_or(1, |now| now.as_nanos() as u64 % 1_000_000_007)
}

impl Default for RunArgs {
    /// As on a command line without flags.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RunArgs,
        }
        <Line as clap::Parser>::parse_from(["run"]).args
    }
}

impl RunArgs {
    /// What runs the same schedule again.
    fn command(&self, seed: u64) -> String {
        let (minutes, faults) = (self.minutes, self.faults.join(","));
        let level = match self.level {
            Level::Store => "store",
            Level::Cluster => "cluster",
        };
        format!(
            "cargo run --release -p chaos -- run --level {level} --minutes {minutes} --faults {faults} --seed {seed}"
        )
    }

    fn program(&self) -> Result<PathBuf> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => beside("xebec")?,
        };
        let found = program.canonicalize();
        found.with_context(|| {
            format!(
                "{}: build it first, or name another by --program",
                program.display()
            )
        })
    }

    fn upgrade_to(&self) -> Result<Option<PathBuf>> {
        let newer = self.upgrade_to.as_ref();
        let newer = newer.map(|newer| {
            let found = newer.canonicalize();
            found.with_context(|| format!("--upgrade-to {}", newer.display()))
        });
        newer.transpose()
    }

    /// The faults that can be done here, and why others cannot.
    fn kinds(&self, has: Needs) -> Result<(Vec<Kind>, Vec<String>)> {
        let mixed = self.faults == ["mixed"];
        let wanted: Vec<Kind> = match mixed {
            true => Kind::all().collect(),
            false => self
                .faults
                .iter()
                .map(|name| name.parse())
                .collect::<Result<_>>()?,
        };
        let mut kinds = Vec::new();
        let mut left_out = Vec::new();
        for kind in wanted {
            match kind.missing(has) {
                None => kinds.push(kind),
                Some(why) if mixed => left_out.push(format!("{kind}: {why}")),
                Some(why) => bail!("{kind}: {why}"),
            }
        }
        Ok((kinds, left_out))
    }
}

/// A file that was built beside this program.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own
        .parent()
        .context("a program lies in a folder")?
        .join(name))
}

/// The workload of a level.
enum Load {
    Store(JoinSet<()>, JoinSet<()>),
    Cluster(Rc<kube::Kube>, kube::Working),
}

impl Load {
    async fn start(
        level: Level,
        cluster: &Cluster,
        shared: &Rc<Shared>,
        pace: Pace,
        seed: u64,
    ) -> Result<Self> {
        let random = Random::new(seed);
        match level {
            Level::Store => {
                let (clients, watchers) = load::start(shared, pace, &random);
                Ok(Self::Store(clients, watchers))
            }
            Level::Cluster => {
                let kube = Rc::new(kube::Kube::new(shared.clone(), cluster)?);
                let working = kube::start(&kube, pace, &random).await?;
                Ok(Self::Cluster(kube, working))
            }
        }
    }

    async fn end(self, cluster: &mut Cluster, shared: &Rc<Shared>) -> Result<History> {
        match self {
            Self::Store(clients, watchers) => {
                end::collect(cluster, shared, clients, watchers).await
            }
            Self::Cluster(kube, working) => kube::collect(cluster, &kube, working).await,
        }
    }
}

/// Disks that can be full: large enough for the store's own reserve.
const DISK_BYTES: u64 = 320 << 20;

/// Runs and checks.
pub async fn perform(args: &RunArgs, seed: u64) -> Result<Run> {
    let root = nix::unistd::geteuid().is_root();
    let slow_fsync = beside("libslow_fsync.so")?;
    let clock_offset = beside("libclock_offset.so")?;
    let has = Needs {
        links: root && !args.loopback,
        slow_fsync: slow_fsync.is_file(),
        clock_offset: clock_offset.is_file(),
        small_disk: root,
        delay: root && !args.loopback && can_delay(),
    };
    let (kinds, left_out) = args.kinds(has)?;
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let steps = schedule(seed, length, &kinds);
    let setting = Setting {
        level: args.level,
        program: args.program()?,
        upgrade_to: args.upgrade_to()?,
        members: args.members,
        agents: 0,
        folder: args.data_dir.clone(),
        loopback: args.loopback,
        slow_fsync: kinds.contains(&Kind::SlowFsync).then_some(slow_fsync),
        clock_offset: kinds.contains(&Kind::Clock).then_some(clock_offset),
        disk_bytes: kinds.contains(&Kind::FullDisk).then_some(DISK_BYTES),
        environment: args.environment.clone(),
    };
    let mut cluster = Cluster::start(&setting).await?;
    let shared = Rc::new(Shared::new(cluster.urls()));
    let observed = Rc::new(RefCell::new(Observed::default()));
    let start = Instant::now();
    let observer = watch_leader(&cluster, start, observed.clone())?;
    let pace = Pace {
        clients: args.clients,
        rate: args.rate,
    };
    let load = Load::start(args.level, &cluster, &shared, pace, seed).await?;
    let nemesis = Nemesis {
        observed: observed.clone(),
        start,
    };
    nemesis.run(&mut cluster, &steps, length).await?;
    tokio::time::sleep_until(start + length).await;
    heal(&mut cluster).await?;
    let history = load.end(&mut cluster, &shared).await?;
    observer.abort();
    cluster.stop().await?;
    let verdicts = check::all(args.level, &history);
    let observed = observed.take();
    Ok(Run {
        seed,
        members: args.members,
        left_out,
        observed,
        history,
        verdicts,
        length: start.elapsed(),
    })
}
