//! Keeps aggregated ClusterRoles up to date: the cluster role aggregation controller. Runs where the leader runs.

use std::sync::Arc;

use api_client::{Client, RawEvent, User, Verb};
use api_machinery::{ObjectExt, Status};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;

use super::aggregated_rules;
use crate::plugin::ObjectReader;
use crate::rbac::policy::GROUP;

const PLURAL: &str = "clusterroles";
/// Events that are taken together.
const BATCH: usize = 256;

/// Follows all ClusterRoles and writes rules that are out of date. Ends only when it is dropped.
///
/// # Errors
/// When roles cannot be followed.
pub async fn aggregate_cluster_roles(
    client: Client,
    reader: Arc<dyn ObjectReader>,
) -> Result<(), Status> {
    let client = client.as_user(User::controller("clusterrole-aggregation-controller"));
    let mut events = client.backend().watch(GROUP, PLURAL)?.ready_chunks(BATCH);
    while let Some(batch) = events.next().await {
        let changed = batch
            .iter()
            .any(|e| matches!(e, RawEvent::Applied { .. } | RawEvent::Deleted { .. }));
        if changed && let Err(status) = aggregate(&client, &*reader).await {
            // The next change of any role tries again.
            tracing::warn!(%status, "a cluster role could not be aggregated");
        }
    }
    Ok(())
}

async fn aggregate(client: &Client, reader: &dyn ObjectReader) -> Result<(), Status> {
    let all = reader.list(GROUP, PLURAL, None);
    for role in &all {
        let Some(rules) = aggregated_rules(role, &all) else {
            continue;
        };
        // With the version that was read: a role that changed meanwhile comes again.
        let patch =
            json!({"metadata": {"resourceVersion": role.resource_version()}, "rules": rules});
        let path = format!("/apis/{GROUP}/v1/{PLURAL}/{}", role.name());
        let body = Bytes::from(patch.to_string());
        match client
            .raw(Verb::Patch, path, "application/merge-patch+json", body)
            .await
        {
            Err(status) if !status.is_conflict() && !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}
