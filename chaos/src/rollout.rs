//! `chaos rollout`: masters and real nodes; in the middle of a rolling update that is also a scale-up, the leading master is
//! killed. How long until writes are accepted and a pod is bound, whether the update completes, whether the Service lost a
//! request that one of its endpoints could have answered, and whether a pod was bound or run twice.

mod bindings;
mod requests;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tokio::time::{Instant, sleep};

use crate::cluster::{Api, Cluster, Level, Setting};
use crate::failover::{LIMIT, bound, leading, summary, written};
use crate::run::{beside, in_one_thread};
use bindings::Bindings;
use requests::{Clients, Tally};
use workload::{await_done, await_gone, await_updated, change};

/// Of so many pods the update has begun, of the whole, when the leader is killed.
const KILL_AT: usize = 8;
/// How long a whole rolling update may take on a busy machine.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(240);
/// The cluster is left alone this long before the next run.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args, Clone)]
pub struct RolloutArgs {
    #[arg(long, default_value_t = 20)]
    runs: usize,
    #[arg(long, default_value_t = 3)]
    masters: usize,
    /// Nodes that run the pods.
    #[arg(long, default_value_t = 2)]
    agents: usize,
    /// Pods that the Deployment is scaled to, from a fifth of them.
    #[arg(long, default_value_t = 50)]
    pods: usize,
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

/// Nodes that a pod's containers were started on, by the pod's uid.
type Starts = BTreeMap<String, Vec<String>>;

pub fn run(args: &RolloutArgs) -> Result<()> {
    in_one_thread(measure(args))
}

/// What one run took, from the kill on, and what its clients saw.
struct Run {
    leader: String,
    writes: Duration,
    bound: Duration,
    done: Duration,
    tally: Tally,
}

async fn measure(args: &RolloutArgs) -> Result<()> {
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
        agents: args.agents,
        folder: args.data_dir.clone(),
        loopback: false,
        upgrade_to: None,
        slow_fsync: None,
        clock_offset: None,
        disk_bytes: None,
        environment: Vec::new(),
    };
    ensure!(args.agents > 0, "pods need a node");
    let mut cluster = Cluster::start(&setting).await?;
    let starts = std::path::absolute(args.data_dir.join("starts"))?;
    std::fs::create_dir(&starts)?;
    workload::create(&mut cluster.api(0)?, &starts, start_size(args)).await?;
    let bindings = Bindings::default();
    let all: Vec<Api> = (0..args.masters)
        .map(|master| cluster.api(master))
        .collect::<Result<_>>()?;
    let watcher = tokio::task::spawn_local(bindings::watch(all, bindings.clone()));
    await_done(&mut cluster.api(0)?, start_size(args), ROLLOUT_LIMIT).await?;
    let hosts = clients(&cluster)?;
    let clients = tokio::task::spawn_blocking(|| Clients::start(hosts)).await??;
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        let mut run = one(args, &mut cluster, number).await?;
        run.tally = clients.take();
        tell(number, &run);
        check_pods(&read(&starts)?, &bindings.borrow())?;
        runs.push(run);
    }
    drop(clients);
    watcher.abort();
    let ran = check_pods(&read(&starts)?, &bindings.borrow())?;
    println!("{ran} pods ran, each bound once and run once");
    cluster.stop().await?;
    verdict(args, &runs)
}

fn start_size(args: &RolloutArgs) -> usize {
    (args.pods / 5).max(2)
}

/// One client without a part in the cluster asks every node's port, another one, a node itself, the Service's own address.
fn clients(cluster: &Cluster) -> Result<Vec<(PathBuf, Vec<SocketAddr>)>> {
    let agents = cluster.agents.len();
    let node = |number| cluster.address(cluster.agent_host(number));
    let ports = (0..agents).map(|number| (node(number), workload::NODE_PORT).into());
    let inside = SocketAddr::new(workload::CLUSTER_IP.parse()?, 80);
    let host = |number| {
        let namespace = cluster.network.namespace(cluster.agent_host(number));
        namespace.context("hosts are namespaces")
    };
    Ok(vec![
        (host(agents)?, ports.collect()),
        (host(agents - 1)?, vec![inside]),
    ])
}

async fn one(args: &RolloutArgs, cluster: &mut Cluster, number: usize) -> Result<Run> {
    let mut api = cluster.api(0)?;
    change(&mut api, start_size(args), None).await?;
    await_done(&mut api, start_size(args), ROLLOUT_LIMIT).await?;
    await_gone(&mut api, start_size(args), ROLLOUT_LIMIT).await?;
    sleep(SETTLE).await;
    change(&mut api, args.pods, Some(number)).await?;
    await_updated(&mut api, args.pods / KILL_AT + 1, LIMIT).await?;

    let leading = leading(cluster).await?;
    let left: Vec<usize> = (0..args.masters)
        .filter(|other| *other != leading)
        .collect();
    let name = format!("rollout-{number}");
    let killed = Instant::now();
    cluster.members[leading].kill().await?;
    let writes = written(cluster, &left, &name).await?;
    let bound = bound(cluster, &left, &workload::pod(&name)).await?;
    let mut api = cluster.api(left[0])?;
    let done = await_done(&mut api, args.pods, ROLLOUT_LIMIT).await;
    let done = done.with_context(|| format!("run {number}: the rolling update"))?;
    workload::delete_pod(&mut api, &name).await?;
    cluster.start_member(leading)?;
    cluster.await_answer(leading, LIMIT).await?;
    Ok(Run {
        leader: cluster.members[leading].name.clone(),
        writes: writes - killed,
        bound: bound - killed,
        done: done - killed,
        tally: Tally::default(),
    })
}

fn tell(number: usize, run: &Run) {
    let Tally {
        requests,
        lost,
        slowest,
        ..
    } = run.tally;
    println!(
        "{number:3}: {} killed, writes after {:.2?}, a pod bound after {:.2?}, all rolled out after {:.1?}; \
         {requests} requests, {lost} lost, the slowest {slowest:.2?}",
        run.leader, run.writes, run.bound, run.done
    );
    for (_, address, why) in &run.tally.told {
        println!("     {address}: {why}");
    }
}

/// What the containers left behind: by their pods' uids, the node of each one that was started.
fn read(starts: &Path) -> Result<Starts> {
    let mut found = Starts::new();
    for file in std::fs::read_dir(starts)? {
        let file = file?;
        let said = std::fs::read_to_string(file.path())?;
        let uid = file.file_name().to_string_lossy().into_owned();
        found.insert(uid, said.lines().map(str::to_owned).collect());
    }
    Ok(found)
}

/// Every pod was bound once, and has run once and there; how many have.
fn check_pods(starts: &Starts, bindings: &BTreeMap<String, BTreeSet<String>>) -> Result<usize> {
    if let Some((uid, nodes)) = bindings.iter().find(|(_, nodes)| nodes.len() > 1) {
        bail!("the pod {uid} was bound to {nodes:?}");
    }
    for (uid, nodes) in starts {
        ensure!(nodes.len() <= 1, "the pod {uid} ran {nodes:?}");
        // A pod may have run and gone while the watch moved.
        if let (Some(bound), Some(node)) = (bindings.get(uid), nodes.first()) {
            ensure!(
                bound.contains(node),
                "the pod {uid} of {bound:?} ran on {node}"
            );
        }
    }
    ensure!(!starts.is_empty(), "no pod ran");
    Ok(starts.len())
}

fn verdict(args: &RolloutArgs, runs: &[Run]) -> Result<()> {
    let times = |of: fn(&Run) -> Duration| runs.iter().map(of).collect::<Vec<_>>();
    // All figures are told before one of them is found too high.
    let results = [
        summary("writes", &mut times(|run| run.writes), args.write_limit),
        summary("a pod bound", &mut times(|run| run.bound), args.bind_limit),
        summary("all rolled out", &mut times(|run| run.done), 0.0),
        summary(
            "the slowest request",
            &mut times(|run| run.tally.slowest),
            0.0,
        ),
    ];
    let requests: usize = runs.iter().map(|run| run.tally.requests).sum();
    let lost: usize = runs.iter().map(|run| run.tally.lost).sum();
    println!("requests: {requests}, lost: {lost}");
    results.into_iter().collect::<Result<()>>()?;
    ensure!(lost == 0, "the Service lost requests");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pod: its uid, where it was bound, where it ran.
    fn check(pods: &[(&str, &str, &str)]) -> Result<usize, String> {
        let nodes = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let starts = pods.iter();
        let starts = starts.map(|(uid, _, ran)| ((*uid).to_owned(), nodes(ran)));
        let bindings = pods.iter();
        let bindings =
            bindings.map(|(uid, bound, _)| ((*uid).to_owned(), nodes(bound).into_iter().collect()));
        let found = check_pods(&starts.collect(), &bindings.collect());
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn pods_that_are_bound_or_run_twice_are_found() {
        assert_eq!(check(&[("1", "a0", "a0"), ("2", "a1", "")]), Ok(2));
        assert_eq!(check(&[]), Err("no pod ran".to_owned()));
        for (bound, ran) in [
            ("a0 a1", "a0"),
            ("a0", "a0 a0"),
            ("a0", "a0 a1"),
            ("a0", "a1"),
        ] {
            check(&[("1", bound, ran)]).expect_err("it was twice somewhere");
        }
    }
}
