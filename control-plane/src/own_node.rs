//! The node on a master's machine gets its role, as kubeadm and k3s give it; a node may not give itself one.

use std::sync::Arc;

use api_client::{Backend, Client, Patch, RawEvent};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

/// The label behind the column ROLES.
const ROLE: &str = "node-role.kubernetes.io/control-plane";

/// Labels the node `name` whenever it appears without its role. Goes on until it is dropped.
pub async fn keep_role(backend: Arc<dyn Backend>, client: Client, name: String) {
    let mut nodes = match backend.watch("", "nodes") {
        Ok(nodes) => nodes,
        Err(status) => return tracing::error!(%status, "nodes cannot be followed"),
    };
    while let Some(event) = nodes.next().await {
        let RawEvent::Applied { json } = event else {
            continue;
        };
        let Ok(node) = serde_json::from_slice::<Node>(&json) else {
            continue;
        };
        let has_role = node
            .metadata
            .labels
            .iter()
            .flatten()
            .any(|(label, _)| label == ROLE);
        if node.metadata.name.as_deref() != Some(&name) || has_role {
            continue;
        }
        let patch = Patch::Merge(json!({"metadata": {"labels": {ROLE: "true"}}}));
        if let Err(status) = client.patch::<Node>(None, &name, "", &patch).await {
            tracing::warn!(%status, node = name, "the node's role was not written");
        }
    }
}
