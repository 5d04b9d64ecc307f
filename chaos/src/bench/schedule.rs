//! Scheduling: fake nodes, many pods created at once; measured until the last of them is bound.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};

use super::api::{Setting, delete_all};
use super::connection::Connection;
use super::measure::{Row, run_all, timed};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/bench/pods";
/// Longer than this is a failure.
const LIMIT: Duration = Duration::from_secs(180);

pub async fn run(setting: &Setting) -> Result<Row> {
    let (nodes, pods) = (setting.args.nodes, setting.args.pods);
    run_all(
        &setting.connections,
        setting.args.workers,
        nodes,
        |c, n| async move { make_node(&c, n).await },
    )
    .await?;
    let list: Value = serde_json::from_slice(
        &setting.connections[0]
            .get(&format!("{PODS}?limit=1"))
            .await?,
    )?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a list has a resourceVersion")?;
    let watcher = Connection::open(&setting.config).await?;
    let path = format!("{PODS}?watch=1&resourceVersion={version}");
    let response = watcher.send(Method::GET, &path, "", Bytes::new()).await?;
    let work = async {
        let create = run_all(
            &setting.connections,
            setting.args.workers,
            pods,
            |c, n| async move { c.post(PODS, pod(n).to_string().into()).await.map(drop) },
        );
        let bound = count_bound(response, pods);
        let both = async { tokio::try_join!(create, bound) };
        tokio::time::timeout(LIMIT, both)
            .await
            .context("pods were not bound in time")?
            .map(drop)
    };
    let ((), elapsed, cpu) = timed(&setting.args.pid, work).await?;
    delete_all(setting, PODS, pods).await?;
    delete_all(setting, NODES, nodes).await?;
    Ok(Row {
        name: "schedule",
        operations: pods,
        elapsed,
        cpu,
        latency: None,
        upstream: (430.0, 0.0),
    })
}

/// Reads the watch until so many different pods have a node.
async fn count_bound(
    mut response: hyper::Response<hyper::body::Incoming>,
    pods: usize,
) -> Result<()> {
    let mut bound = std::collections::HashSet::new();
    let mut buffer = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line)?;
            if event["object"]["spec"]["nodeName"].is_string() {
                bound.insert(event["object"]["metadata"]["name"].to_string());
            }
        }
        if bound.len() >= pods {
            return Ok(());
        }
    }
    bail!("the watch ended after {} of {pods} bindings", bound.len())
}

async fn make_node(connection: &Connection, number: usize) -> Result<()> {
    let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("b{number}"), "labels": {"kubernetes.io/hostname": format!("b{number}")}},
        "status": {
            "capacity": resources, "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    });
    connection.post(NODES, node.to_string().into()).await?;
    let path = format!("{NODES}/b{number}/status");
    // Without a resourceVersion, so that controllers may write to the node meanwhile.
    connection
        .call(
            Method::PUT,
            &path,
            "application/json",
            node.to_string().into(),
        )
        .await
        .map(drop)
}

fn pod(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("b{number}"), "labels": {"app": "bench"}},
        "spec": {
            "automountServiceAccountToken": false,
            // Fake nodes have no agent: whatever taints they get must not matter.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "c", "image": "none",
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
        },
    })
}
