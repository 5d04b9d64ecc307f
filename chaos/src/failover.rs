//! `chaos failover`: three masters, the leading one killed again and again: how long until the API accepts writes, how
//! long until the next pod is bound. With `--level store` the same for members of the store alone (`store.rs`).

pub mod node;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use hyper::Method;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::{Api, Cluster, Level, Setting, leader, set_delay};
use crate::run::{beside, in_one_thread};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
/// One attempt, and the pause before the next.
const ATTEMPT: Duration = Duration::from_millis(400);
const RETRY: Duration = Duration::from_millis(20);
/// What a step may take before the measurement gives up.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The cluster is left alone this long before the next kill.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args, Clone)]
pub struct FailoverArgs {
    /// What the members are. Members of the store are under writers, readers and watchers all the time, and everything
    /// that these saw is checked.
    #[arg(long, value_enum, default_value_t = Level::Cluster)]
    level: Level,
    #[arg(long, default_value_t = 20)]
    runs: usize,
    #[arg(long, visible_alias = "members", default_value_t = 3)]
    masters: usize,
    /// The server; for the store any that takes etcd's flags [default: `xebec` beside this program].
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    #[arg(long, value_name = "DIR", default_value = "chaos-run")]
    data_dir: PathBuf,
    /// Milliseconds by which every member's syncs take longer once the cluster stands (build `slow-fsync` first).
    #[arg(long, value_name = "MILLIS", default_value_t = 0)]
    fsync_delay: u64,
    /// Seconds until writes are accepted that the worst run may take; 0 for any.
    #[arg(long, default_value_t = 2.0)]
    write_limit: f64,
    /// Seconds until a pod is bound that the worst run may take; 0 for any.
    #[arg(long, default_value_t = 3.0)]
    bind_limit: f64,
}

pub fn run(args: &FailoverArgs) -> Result<()> {
    match args.level {
        Level::Cluster => in_one_thread(measure(args)),
        Level::Store => in_one_thread(store::measure(args)),
    }
}

impl FailoverArgs {
    fn setting(&self) -> Result<Setting> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => beside("xebec")?,
        };
        Ok(Setting {
            level: self.level,
            program: program
                .canonicalize()
                .with_context(|| program.display().to_string())?,
            members: self.masters,
            agents: 0,
            folder: self.data_dir.clone(),
            loopback: self.level == Level::Store,
            upgrade_to: None,
            slow_fsync: match self.fsync_delay {
                0 => None,
                _ => Some(beside("libslow_fsync.so")?),
            },
            clock_offset: None,
            disk_bytes: None,
            environment: Vec::new(),
        })
    }
}

/// The cluster to do harm to, its disks as slow as is wanted.
async fn cluster(args: &FailoverArgs) -> Result<Cluster> {
    let cluster = Cluster::start(&args.setting()?).await?;
    if args.fsync_delay > 0 {
        for member in &cluster.members {
            set_delay(member, args.fsync_delay)?;
        }
    }
    Ok(cluster)
}

async fn measure(args: &FailoverArgs) -> Result<()> {
    let mut cluster = cluster(args).await?;
    node::make(&mut cluster.api(0)?, "fake-1").await?;
    let (mut writes, mut binds) = (Vec::new(), Vec::new());
    for number in 0..args.runs {
        sleep(SETTLE).await;
        let leading = leading(&cluster).await?;
        let killed = Instant::now();
        cluster.members[leading].kill().await?;
        let left: Vec<usize> = (0..args.masters)
            .filter(|other| *other != leading)
            .collect();
        let name = format!("failover-{number}");
        let write = written(&cluster, &left, &name).await?;
        let bound = bound(&cluster, &left, &node::pod(&name, &json!({}))).await?;
        let (write, bound) = (write - killed, bound - killed);
        println!(
            "{:3}: master {leading} killed, writes after {write:.2?}, a pod bound after {bound:.2?}",
            number + 1
        );
        writes.push(write);
        binds.push(bound);
        cluster.start_member(leading)?;
        cluster.await_answer(leading, LIMIT).await?;
    }
    cluster.stop().await?;
    // All figures are told before one of them is found too high.
    let write = summary("writes", &mut writes, args.write_limit);
    summary("a pod bound", &mut binds, args.bind_limit).and(write)
}

/// Prints the median and the worst; an error if that is more than so many seconds, which 0 allows.
pub fn summary(what: &str, times: &mut [Duration], limit: f64) -> Result<()> {
    times.sort_unstable();
    let worst = *times.last().context("no runs")?;
    println!(
        "{what}: median {:.2?}, worst {worst:.2?}, {} runs",
        times[times.len() / 2],
        times.len()
    );
    let holds = limit == 0.0 || worst.as_secs_f64() <= limit;
    ensure!(holds, "{what} after {worst:.2?}, the limit is {limit} s");
    Ok(())
}

pub async fn leading(cluster: &Cluster) -> Result<usize> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (_, name) = leader(&mut cluster.api(0)?, ATTEMPT)
            .await
            .unwrap_or_default();
        let found = cluster
            .members
            .iter()
            .position(|member| Some(&member.name) == name.as_ref());
        if let Some(found) = found {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "nobody leads");
        sleep(RETRY).await;
    }
}

/// When one of the masters first accepts the object; all are asked at once, as many clients would.
async fn first(
    cluster: &Cluster,
    masters: &[usize],
    path: &'static str,
    body: &str,
) -> Result<Instant> {
    let mut attempts = JoinSet::new();
    for master in masters {
        let (mut api, body) = (cluster.api(*master)?, body.to_owned());
        attempts.spawn_local(async move {
            loop {
                match api.call(Method::POST, path, &body, ATTEMPT).await {
                    // An attempt without an answer, or that at another master, has made it.
                    Ok((200..300 | 409, _)) => return Instant::now(),
                    _ => sleep(RETRY).await,
                }
            }
        });
    }
    let accepted = tokio::time::timeout(LIMIT, attempts.join_next()).await;
    Ok(accepted
        .context("no write was accepted")?
        .context("no masters")??)
}

/// When one of the masters first accepts a write.
pub async fn written(cluster: &Cluster, masters: &[usize], name: &str) -> Result<Instant> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    first(cluster, masters, CONFIG_MAPS, &object.to_string()).await
}

/// When this new pod has a node.
pub async fn bound(cluster: &Cluster, masters: &[usize], pod: &Json) -> Result<Instant> {
    first(cluster, masters, PODS, &pod.to_string()).await?;
    let name = pod["metadata"]["name"].as_str().context("a name")?;
    let path = format!("{PODS}/{name}");
    let deadline = Instant::now() + LIMIT;
    let mut apis: Vec<Api> = masters
        .iter()
        .map(|master| cluster.api(*master))
        .collect::<Result<_>>()?;
    loop {
        for api in &mut apis {
            let Ok(found) = api.get(&path, ATTEMPT).await else {
                continue;
            };
            let pod: Json = serde_json::from_slice(&found)?;
            if pod["spec"]["nodeName"].is_string() {
                return Ok(Instant::now());
            }
        }
        ensure!(Instant::now() < deadline, "{path} was not bound");
        sleep(RETRY).await;
    }
}
