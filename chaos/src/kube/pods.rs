//! A Deployment and a StatefulSet that are scaled and updated all the time, and nodes without containers: pods that are
//! bound to them run as soon as they are seen, and are gone as soon as they shall be.

use std::time::Duration;

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use super::masters::Masters;
use super::{NODES, jobs};
use crate::cluster::Api;
use crate::failover::node;
use crate::load::pause;

/// Kind, resource and name of what makes pods; the name is also the pods' label.
pub const WORKLOADS: [(&str, &str, &str); 2] = [
    ("Deployment", "deployments", "web"),
    ("StatefulSet", "statefulsets", "db"),
];
const APPS: &str = "/apis/apps/v1/namespaces/default";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
const LIMIT: Duration = Duration::from_secs(10);
const CHANGE_EVERY: Duration = Duration::from_secs(3);
/// A node that is not heard of for 40 s counts as lost.
const BEAT_EVERY: Duration = Duration::from_secs(5);
const MAX_REPLICAS: u64 = 12;
/// A watch that says nothing for so long is begun anew.
const SILENCE: Duration = Duration::from_secs(4);

pub fn path(resource: &str, name: &str) -> String {
    format!("{APPS}/{resource}/{name}")
}

pub async fn create(api: &mut Api) -> Result<()> {
    for (kind, resource, name) in WORKLOADS {
        let labels = json!({"app": name});
        let template = node::pod("", &labels);
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
            },
        });
        if kind == "StatefulSet" {
            object["spec"]["serviceName"] = name.into();
        }
        let body = object.to_string();
        api.ok(Method::POST, &format!("{APPS}/{resource}"), &body, LIMIT)
            .await?;
    }
    Ok(())
}

/// Scales or updates them now and then.
pub async fn change(mut masters: Masters) {
    while !masters.stopping() {
        let (_, resource, name) = *masters.random.pick(&WORKLOADS);
        let patch = match masters.random.percent(50) {
            true => json!({"spec": {"replicas": masters.random.between(1, MAX_REPLICAS)}}),
            false => {
                let revision = masters.kube.shared.value();
                json!({"spec": {"template": {"metadata": {"annotations": {"revision": &*revision}}}}})
            }
        };
        // Whether it was taken shows in the end.
        let _ = masters
            .call(Method::PATCH, &path(resource, name), &patch.to_string())
            .await;
        pause(&mut masters.random, CHANGE_EVERY).await;
    }
}

/// Signs of life of the nodes until told to stop.
pub async fn beat(mut masters: Masters) {
    while !masters.kube.stopping_pods.get() {
        for name in NODES {
            let now = jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string();
            let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now});
            let status = json!({"status": {"conditions": [ready]}});
            let path = format!("/api/v1/nodes/{name}/status");
            // One that is lost is followed by the next.
            let _ = masters
                .call(Method::PATCH, &path, &status.to_string())
                .await;
        }
        pause(&mut masters.random, BEAT_EVERY).await;
    }
}

/// Plays the nodes until told to stop.
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
    let uid = pod["metadata"]["uid"].as_str().context("a uid")?;
    if pod["metadata"]["deletionTimestamp"].is_string() {
        masters.kube.running.borrow_mut().remove(name);
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
    if pod["status"]["phase"] == "Succeeded" {
        return Ok(());
    }
    if pod["metadata"]["labels"][jobs::LABEL].is_string() {
        return finish(masters, name).await;
    }
    let before = masters
        .kube
        .running
        .borrow_mut()
        .insert(name.to_owned(), uid.to_owned());
    if before.as_ref().is_some_and(|before| before != uid) {
        masters.kube.twice.borrow_mut().push(name.to_owned());
    }
    let conditions = pod["status"]["conditions"].as_array();
    let is_ready = |condition: &Json| condition["type"] == "Ready" && condition["status"] == "True";
    // While its node was not heard of it was said not to be ready; a kubelet says again that it is.
    if conditions.is_some_and(|conditions| conditions.iter().any(is_ready)) {
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

/// The containers of a Job's pod end well as soon as they have begun.
async fn finish(masters: &mut Masters, name: &str) -> Result<()> {
    let status = json!({"status": {"phase": "Succeeded"}});
    masters
        .call(
            Method::PATCH,
            &format!("{PODS}/{name}/status"),
            &status.to_string(),
        )
        .await
        .map(drop)
}
