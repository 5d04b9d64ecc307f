//! A Deployment that is scaled and updated all the time, and a node without containers: pods that are bound to it run as
//! soon as it sees them, and are gone as soon as they shall be.

use std::time::Duration;

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use super::masters::Masters;
use crate::cluster::Api;
use crate::failover::node;
use crate::load::pause;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
const LIMIT: Duration = Duration::from_secs(10);
const CHANGE_EVERY: Duration = Duration::from_secs(3);
const MAX_REPLICAS: u64 = 12;
/// A watch that says nothing for so long is begun anew.
const SILENCE: Duration = Duration::from_secs(4);

pub async fn create(api: &mut Api) -> Result<()> {
    let mut template = node::pod("", &json!({"app": "web"}));
    template["metadata"] = json!({"labels": {"app": "web"}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    });
    api.ok(Method::POST, DEPLOYMENTS, &deployment.to_string(), LIMIT)
        .await
        .map(drop)
}

/// Scales or updates it now and then.
pub async fn change(mut masters: Masters) {
    while !masters.stopping() {
        let patch = match masters.random.percent(50) {
            true => json!({"spec": {"replicas": masters.random.between(1, MAX_REPLICAS)}}),
            false => {
                let revision = masters.kube.shared.value();
                json!({"spec": {"template": {"metadata": {"annotations": {"revision": &*revision}}}}})
            }
        };
        // Whether it was taken shows in the end.
        let _ = masters
            .call(Method::PATCH, DEPLOYMENT, &patch.to_string())
            .await;
        pause(&mut masters.random, CHANGE_EVERY).await;
    }
}

/// Plays the node until told to stop.
pub async fn run_node(mut masters: Masters) {
    while !masters.kube.stopping_pods.get() {
        // It begins anew with a list, like any kubelet.
        let _ = serve_pods(&mut masters).await;
        masters.leave().await;
    }
}

async fn serve_pods(masters: &mut Masters) -> Result<()> {
    let (status, body) = masters.call(Method::GET, PODS, "").await?;
    anyhow::ensure!(status == 200, "listing pods: {status}");
    let list: Json = serde_json::from_slice(&body)?;
    for pod in list["items"].as_array().context("items")? {
        serve_pod(masters, pod).await?;
    }
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a version")?;
    let mut lines = masters
        .watch(&format!("{PODS}?watch=1&resourceVersion={version}"))
        .await?;
    while !masters.kube.stopping_pods.get() {
        let line = timeout(SILENCE, lines.next())
            .await??
            .context("the stream ended")?;
        match line["type"].as_str() {
            Some("ADDED" | "MODIFIED") => serve_pod(masters, &line["object"]).await?,
            Some("DELETED") => note_binding(masters, &line["object"]),
            other => anyhow::bail!("{other:?}"),
        }
    }
    Ok(())
}

fn note_binding(masters: &Masters, pod: &Json) {
    let (uid, node) = (
        pod["metadata"]["uid"].as_str(),
        pod["spec"]["nodeName"].as_str(),
    );
    if let (Some(uid), Some(node)) = (uid, node) {
        let mut bindings = masters.kube.bindings.borrow_mut();
        let nodes = bindings.entry(uid.to_owned()).or_default();
        if nodes.iter().all(|known| known != node) {
            nodes.push(node.to_owned());
        }
    }
}

async fn serve_pod(masters: &mut Masters, pod: &Json) -> Result<()> {
    note_binding(masters, pod);
    if !pod["spec"]["nodeName"].is_string() {
        return Ok(());
    }
    let name = pod["metadata"]["name"].as_str().context("a name")?;
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let options =
            json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}});
        return masters
            .call(
                Method::DELETE,
                &format!("{PODS}/{name}"),
                &options.to_string(),
            )
            .await
            .map(drop);
    }
    if pod["status"]["phase"] == "Running" {
        return Ok(());
    }
    let since = &pod["metadata"]["creationTimestamp"];
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": since});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.42.0.9",
        "conditions": conditions,
    }});
    masters
        .call(
            Method::PATCH,
            &format!("{PODS}/{name}/status"),
            &status.to_string(),
        )
        .await
        .map(drop)
}
