//! The Deployment that is updated and scaled, and the Service in front of it: what is asked for, and whether it is so.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use crate::cluster::Api;
use crate::failover::PODS;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const IMAGE: &str = "xebec-example:1";
pub const CLUSTER_IP: &str = "10.43.0.80";
pub const NODE_PORT: u16 = 30080;
const CALL_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Every container leaves a line in a file of `starts` that is named by its pod's uid: the node it runs on.
pub async fn create(api: &mut Api, starts: &Path, replicas: usize) -> Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort", "clusterIP": CLUSTER_IP, "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}],
        },
    });
    let labels = json!({"app": "web"});
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let container = json!({
        "name": "web", "image": IMAGE,
        "command": ["sh", "-c", "echo $NODE >> /starts/$UID; exec serve"],
        "env": [
            {"name": "UID", "valueFrom": field("metadata.uid")},
            {"name": "NODE", "valueFrom": field("spec.nodeName")},
        ],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        // Longer than another master needs to take the pod out of the Service.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "volumeMounts": [{"name": "starts", "mountPath": "/starts"}],
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
            "template": {"metadata": {"labels": labels}, "spec": {
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 10,
                "containers": [container],
                "volumes": [{"name": "starts", "hostPath": {"path": starts}}],
            }},
        },
    });
    for (path, object) in [(SERVICES, service), (DEPLOYMENTS, deployment)] {
        api.ok(Method::POST, path, &object.to_string(), CALL_LIMIT)
            .await?;
    }
    Ok(())
}

/// A pod that is there only to be bound.
pub fn pod(name: &str) -> Json {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "86400"]}],
        },
    })
}

pub async fn delete_pod(api: &mut Api, name: &str) -> Result<()> {
    let path = format!("{PODS}/{name}");
    api.ok(Method::DELETE, &path, "", CALL_LIMIT)
        .await
        .map(drop)
}

/// Asks for so many, of another revision if one is named.
pub async fn change(api: &mut Api, replicas: usize, revision: Option<usize>) -> Result<()> {
    let mut patch = json!({"spec": {"replicas": replicas}});
    if let Some(revision) = revision {
        let annotations = json!({"revision": revision.to_string()});
        patch["spec"]["template"] = json!({"metadata": {"annotations": annotations}});
    }
    let patch = patch.to_string();
    api.ok(Method::PATCH, DEPLOYMENT, &patch, CALL_LIMIT)
        .await
        .map(drop)
}

/// Waits until so many pods are of the newest revision.
pub async fn await_updated(api: &mut Api, wanted: usize, limit: Duration) -> Result<()> {
    eventually(api, limit, async |api| {
        let status = &get(api, DEPLOYMENT).await?["status"];
        let updated = status["updatedReplicas"].as_u64().unwrap_or(0);
        ensure!(updated as usize >= wanted, "{updated} are updated");
        Ok(())
    })
    .await
}

/// Waits until all pods are of the newest revision and serve, and no others are there.
pub async fn await_done(api: &mut Api, replicas: usize, limit: Duration) -> Result<Instant> {
    eventually(api, limit, async |api| {
        let found = get(api, DEPLOYMENT).await?;
        let (generation, status) = (&found["metadata"]["generation"], &found["status"]);
        let counts = ["replicas", "updatedReplicas", "availableReplicas"];
        let all = counts.iter().all(|count| status[*count] == replicas);
        let seen = status["observedGeneration"] == *generation;
        ensure!(all && seen, "{replicas} are wanted: {status}");
        Ok(())
    })
    .await?;
    Ok(Instant::now())
}

/// Waits until the pods that shall go are gone; the uids of those that stay.
pub async fn await_gone(api: &mut Api, replicas: usize, limit: Duration) -> Result<Vec<String>> {
    eventually(api, limit, async |api| {
        let pods = get(api, &format!("{PODS}?labelSelector=app%3Dweb")).await?;
        let pods = pods["items"].as_array().context("items")?;
        ensure!(pods.len() == replicas, "{} pods are there", pods.len());
        let uid = |pod: &Json| pod["metadata"]["uid"].as_str().map(str::to_owned);
        pods.iter().map(uid).collect::<Option<_>>().context("uids")
    })
    .await
}

async fn get(api: &mut Api, path: &str) -> Result<Json> {
    Ok(serde_json::from_slice(&api.get(path, CALL_LIMIT).await?)?)
}

async fn eventually<T>(
    api: &mut Api,
    limit: Duration,
    mut condition: impl AsyncFnMut(&mut Api) -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match condition(api).await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not within {limit:?}")));
            }
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}
