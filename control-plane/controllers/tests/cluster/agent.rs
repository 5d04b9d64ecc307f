//! Stands in for scheduler and node agent: one node, on which every pod runs at once.
//!
//! A pod whose image is `succeeds` or `fails` ends so; every other one becomes ready and stays.

use api_client::{Client, DeleteOptions, Patch, RawEvent};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

pub const NODE: &str = "node-1";

pub async fn run(client: Client) {
    let ready = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let node: Node = serde_json::from_value(json!({"metadata": {"name": NODE}})).expect("a node");
    client.create(None, &node).await.expect("a node");
    client
        .patch::<Node>(
            None,
            NODE,
            "status",
            &Patch::Merge(json!({"status": {"conditions": ready}})),
        )
        .await
        .expect("ready");
    let mut stream = client.backend().watch("", "pods").expect("a stream");
    let mut next_address = 1;
    while let Some(event) = stream.next().await {
        if let RawEvent::Applied { json } = event {
            let pod: Pod = serde_json::from_slice(&json).expect("a pod");
            // A pod that changed or went meanwhile comes again or not at all.
            let _ = advance(&client, &pod, &mut next_address).await;
        }
    }
}

async fn advance(
    client: &Client,
    pod: &Pod,
    next_address: &mut u8,
) -> Result<(), api_machinery::Status> {
    let (namespace, name) = (
        pod.metadata.namespace.as_deref(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    let spec = pod.spec.clone().unwrap_or_default();
    let phase = pod
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        return client.delete::<Pod>(namespace, name, &options).await;
    }
    if spec.node_name.is_none() {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}});
        return client
            .create_subresource::<Pod>(namespace, name, "binding", &binding)
            .await
            .map(drop);
    }
    if phase == "Running" || phase == "Succeeded" || phase == "Failed" {
        return Ok(());
    }
    let image = spec
        .containers
        .first()
        .and_then(|c| c.image.as_deref())
        .unwrap_or_default();
    let (phase, ready) = match image {
        "succeeds" => ("Succeeded", "False"),
        "fails" => ("Failed", "False"),
        _ => ("Running", "True"),
    };
    let address = format!("10.42.0.{next_address}");
    *next_address = next_address.wrapping_add(1).max(1);
    let status = json!({"phase": phase, "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    client
        .patch::<Pod>(
            namespace,
            name,
            "status",
            &Patch::Merge(json!({ "status": status })),
        )
        .await
        .map(drop)
}
