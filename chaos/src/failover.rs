//! `chaos failover`: three masters, the leading one killed again and again: how long until the API accepts writes, how
//! long until the next pod is bound.

pub mod node;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use hyper::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::{Api, Cluster, Level, Setting, leader};
use crate::run::{beside, in_one_thread};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// One attempt, and the pause before the next.
const ATTEMPT: Duration = Duration::from_millis(400);
const RETRY: Duration = Duration::from_millis(20);
/// What a step may take before the measurement gives up.
const LIMIT: Duration = Duration::from_secs(60);
/// The cluster is left alone this long before the next kill.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args, Clone)]
pub struct FailoverArgs {
    #[arg(long, default_value_t = 20)]
    runs: usize,
    #[arg(long, default_value_t = 3)]
    masters: usize,
    /// The server [default: `xebec` beside this program].
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    #[arg(long, value_name = "DIR", default_value = "chaos-run")]
    data_dir: PathBuf,
    /// Seconds until writes are accepted that the worst run may take; 0 for any.
    #[arg(long, default_value_t = 2.0)]
    write_limit: f64,
    /// Seconds until a pod is bound that the worst run may take; 0 for any.
    #[arg(long, default_value_t = 3.0)]
    bind_limit: f64,
}

pub fn run(args: &FailoverArgs) -> Result<()> {
    in_one_thread(measure(args))
}

async fn measure(args: &FailoverArgs) -> Result<()> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => beside("xebec")?,
    };
    let setting = Setting {
        level: Level::Cluster,
        program: program
            .canonicalize()
            .with_context(|| program.display().to_string())?,
        members: args.masters,
        folder: args.data_dir.clone(),
        loopback: false,
        shim: None,
        disk_bytes: None,
        environment: Vec::new(),
    };
    let mut cluster = Cluster::start(&setting).await?;
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
        let write = first(&cluster, &left, CONFIG_MAPS, &config_map(number)).await?;
        let bound = bound(&cluster, &left, number).await?;
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
    let write = summary("writes", &mut writes)?;
    let bind = summary("a pod bound", &mut binds)?;
    let above = |found: Duration, limit: f64| limit > 0.0 && found.as_secs_f64() > limit;
    if above(write, args.write_limit) || above(bind, args.bind_limit) {
        bail!(
            "the limits are {} s and {} s",
            args.write_limit,
            args.bind_limit
        );
    }
    Ok(())
}

/// The worst; prints it with the median.
fn summary(what: &str, times: &mut [Duration]) -> Result<Duration> {
    times.sort_unstable();
    let worst = *times.last().context("no runs")?;
    println!(
        "{what}: median {:.2?}, worst {worst:.2?}, {} runs",
        times[times.len() / 2],
        times.len()
    );
    Ok(worst)
}

async fn leading(cluster: &Cluster) -> Result<usize> {
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
        anyhow::ensure!(Instant::now() < deadline, "nobody leads");
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

async fn bound(cluster: &Cluster, masters: &[usize], number: usize) -> Result<Instant> {
    first(cluster, masters, PODS, &pod(number)).await?;
    let path = format!("{PODS}/failover-{number}");
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
            let pod: serde_json::Value = serde_json::from_slice(&found)?;
            if pod["spec"]["nodeName"].is_string() {
                return Ok(Instant::now());
            }
        }
        anyhow::ensure!(Instant::now() < deadline, "{path} was not bound");
        sleep(RETRY).await;
    }
}

fn config_map(number: usize) -> String {
    let name = format!("failover-{number}");
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}).to_string()
}

fn pod(number: usize) -> String {
    node::pod(&format!("failover-{number}"), &json!({})).to_string()
}
