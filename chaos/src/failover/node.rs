//! A node that has no agent: an object that the scheduler may bind pods to, which then stay as they are.

use std::time::Duration;

use anyhow::Result;
use hyper::Method;
use serde_json::{Value, json};

use crate::cluster::Api;

const LIMIT: Duration = Duration::from_secs(10);

pub async fn make(api: &mut Api, name: &str) -> Result<()> {
    let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "capacity": resources, "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    });
    let body = node.to_string();
    api.ok(Method::POST, "/api/v1/nodes", &body, LIMIT).await?;
    let path = format!("/api/v1/nodes/{name}/status");
    api.ok(Method::PUT, &path, &body, LIMIT).await.map(drop)
}

pub fn pod(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
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
