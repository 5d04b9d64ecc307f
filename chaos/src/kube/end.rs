//! The end of a run: clients stop, controllers converge, watchers catch up.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tokio::time::{Instant, sleep, timeout};

use super::pods::{PODS, WORKLOADS, path};
use super::{CALL_LIMIT, Kube, Working, jobs, objects};
use crate::cluster::Cluster;
use crate::history::{History, MemberEnd};

/// All is well again within this after the last fault.
const CONVERGE_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn collect(
    cluster: &mut Cluster,
    kube: &Rc<Kube>,
    mut working: Working,
) -> Result<History> {
    let mut members = Vec::new();
    let mut end = |name: String, result: Result<()>| {
        members.push(MemberEnd {
            name,
            missing: result.err().map(|error| format!("{error:#}")),
            ..Default::default()
        });
    };
    for number in 0..cluster.members.len() {
        let back = cluster.await_answer(number, CONVERGE_LIMIT).await;
        end(cluster.members[number].name.clone(), back);
    }
    kube.shared.stopping.set(true);
    while let Some(ended) = working.clients.join_next().await {
        ended?;
    }
    for (kind, resource, name) in WORKLOADS {
        end(
            format!("the {kind}"),
            converge(async || is_as_asked(kube, resource, name).await).await,
        );
    }
    end(
        "the Jobs".to_owned(),
        converge(async || jobs::are_complete(kube).await).await,
    );
    kube.stopping_pods.set(true);
    let last = last_revision(kube).await?;
    kube.shared.last_revision.set(Some(last));
    let all_watchers = async { while working.watchers.join_next().await.is_some() {} };
    let watched = timeout(CONVERGE_LIMIT, all_watchers).await;
    end(
        "every watcher".to_owned(),
        watched.context("did not see the last revision"),
    );
    working.node.shutdown().await;
    for (pod, nodes) in kube.bindings.take() {
        if nodes.len() > 1 {
            end(
                format!("pod {pod}"),
                Err(anyhow::anyhow!("was bound to {nodes:?}")),
            );
        }
    }
    for name in kube.twice.take() {
        let other = Err(anyhow::anyhow!("ran again before it had ended"));
        end(format!("pod {name}"), other);
    }
    let ended = kube.shared.now();
    Ok(History {
        operations: kube.shared.operations.take(),
        sessions: kube.shared.sessions.take(),
        gone: Vec::new(),
        events: kube.events.take().into_values().collect(),
        members,
        ended,
    })
}

/// The newest register's revision: watchers that have it have all.
async fn last_revision(kube: &Kube) -> Result<i64> {
    let path = format!("{}?labelSelector=chaos%3Dregister", objects::PATH);
    let list: Json = serde_json::from_slice(&kube.api(0).get(&path, CALL_LIMIT).await?)?;
    let items = list["items"].as_array().context("items")?;
    let revisions = items
        .iter()
        .map(objects::revision)
        .collect::<Result<Vec<_>>>()?;
    Ok(revisions.into_iter().max().unwrap_or(0))
}

/// Asks until it is well.
async fn converge(is_well: impl AsyncFn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + CONVERGE_LIMIT;
    loop {
        let Err(error) = is_well().await else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(error.context(format!(
                "not as asked {CONVERGE_LIMIT:?} after the last fault"
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn is_as_asked(kube: &Kube, resource: &str, name: &str) -> Result<()> {
    let mut api = kube.api(0);
    let found = api.get(&path(resource, name), CALL_LIMIT).await?;
    let found: Json = serde_json::from_slice(&found)?;
    let (wanted, status) = (&found["spec"]["replicas"], &found["status"]);
    let seen = status["observedGeneration"] == found["metadata"]["generation"];
    let counts = ["replicas", "updatedReplicas", "readyReplicas"];
    let there = counts.iter().all(|count| status[*count] == *wanted);
    ensure!(seen && there, "{wanted} are wanted: {status}");
    let path = format!("{PODS}?labelSelector=app%3D{name}");
    let pods: Json = serde_json::from_slice(&api.get(&path, CALL_LIMIT).await?)?;
    let count = pods["items"].as_array().map_or(0, Vec::len);
    ensure!(
        Some(count as u64) == wanted.as_u64(),
        "{count} pods, {wanted} are wanted"
    );
    Ok(())
}
