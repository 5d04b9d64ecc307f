//! Taint eviction: deletes pods from nodes whose NoExecute taints they do not tolerate, or no longer.
//!
//! The time that a pod may stay is counted from when the taint was added (or the pod was made), both of which are in the
//! cluster's state: a new leader goes on counting where the old one stopped.

use std::sync::Arc;

use api_client::{Change, DeleteOptions, EventType, Informer, ObjectKey, Patch, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::context::{Context, Controller, Queue, until};
use crate::error::Outcome;
use crate::node_lifecycle::{BY_NODE, pods_by_node};
use crate::support::{Meta, is_terminal, node_name, taints, tolerates};

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let pods = pods_by_node(context);
    let nodes = context.informer::<Node>();
    let keys = queue.clone();
    let placed = nodes.clone();
    pods.on_change(move |change| {
        let Change::Applied { new, .. } = change else {
            return;
        };
        let node = placed.get(&ObjectKey::new("", node_name(new)));
        if node.is_some_and(|node| has_no_execute(&node)) {
            keys.add(ObjectKey::of(new.as_ref()));
        }
    });
    let (keys, on_node) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        let Change::Applied { old, new } = change else {
            return;
        };
        if has_no_execute(new) && old.as_ref().is_none_or(|old| taints(old) != taints(new)) {
            on_node
                .by_index(BY_NODE, new.name())
                .iter()
                .for_each(|pod| keys.add(ObjectKey::of(pod.as_ref())));
        }
    });
    Arc::new(TaintEviction {
        context: context.clone(),
        queue: queue.clone(),
        pods,
        nodes,
    })
}

fn has_no_execute(node: &Node) -> bool {
    taints(node).iter().any(|taint| taint.effect == "NoExecute")
}

struct TaintEviction {
    context: Context,
    queue: Queue,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
}

#[async_trait]
impl Controller for TaintEviction {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(pod) = self
            .pods
            .get(key)
            .filter(|pod| !pod.is_deleting() && !is_terminal(pod))
        else {
            return Ok(());
        };
        let Some(node) = self.nodes.get(&ObjectKey::new("", node_name(&pod))) else {
            return Ok(());
        };
        let now = self.context.now();
        match eviction_time(&pod, taints(&node), now) {
            None => Ok(()),
            Some(at) if at > now => {
                self.queue.add_after(key.clone(), until(now, at));
                Ok(())
            }
            Some(_) => self.evict(key, &pod, now).await,
        }
    }
}

impl TaintEviction {
    async fn evict(&self, key: &ObjectKey, pod: &Arc<Pod>, now: Timestamp) -> Outcome {
        let message = format!("Marking for deletion Pod {key}");
        self.context
            .recorder
            .record(pod, EventType::Normal, "TaintManagerEviction", message);
        let reason = (
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        );
        let patch = Patch::Strategic(disruption_target(pod, reason, now));
        match self
            .context
            .client
            .patch::<Pod>(key.namespace(), &key.name, "status", &patch)
            .await
        {
            Err(status) if is_not_found(&status) => return Ok(()),
            answer => answer?,
        };
        let options = DeleteOptions {
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        match self
            .context
            .client
            .delete::<Pod>(key.namespace(), &key.name, &options)
            .await
        {
            Err(status) if !is_not_found(&status) => Err(status.into()),
            _ => Ok(()),
        }
    }
}

/// A patch of the pod's status that says why it is about to be deleted.
pub(crate) fn disruption_target(
    pod: &Pod,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> serde_json::Value {
    json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": reason, "message": message, "lastTransitionTime": Time(now)}]}})
}

/// When the pod has to go; none if it may stay.
pub(crate) fn eviction_time(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Timestamp> {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|s| s.tolerations.as_deref())
        .unwrap_or_default();
    let mut earliest: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let mut tolerating = tolerations
            .iter()
            .filter(|t| tolerates(t, taint))
            .peekable();
        if tolerating.peek().is_none() {
            return Some(now);
        }
        if let Some(seconds) = tolerating.filter_map(|t| t.toleration_seconds).min() {
            let since = taint
                .time_added
                .as_ref()
                .map_or(now, |t| t.0)
                .max(pod.created());
            let at = since + SignedDuration::from_secs(seconds.max(0));
            earliest = Some(earliest.map_or(at, |known| known.min(at)));
        }
    }
    earliest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_stay_as_long_as_they_tolerate() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let taints: Vec<Taint> = serde_json::from_value(json!([
            {"key": "down", "effect": "NoExecute", "timeAdded": "2026-01-01T00:59:00Z"}, {"key": "x", "effect": "NoSchedule"}]))
        .expect("taints");
        let check = |tolerations: serde_json::Value, created: &str, expect: Option<&str>| {
            let value = json!({"metadata": {"creationTimestamp": created}, "spec": {"containers": [], "tolerations": tolerations}});
            let pod: Pod = serde_json::from_value(value).expect("a pod");
            assert_eq!(
                eviction_time(&pod, &taints, now)
                    .map(|at| at.to_string())
                    .as_deref(),
                expect
            );
        };
        let old = "2026-01-01T00:00:00Z";
        check(json!([]), old, Some("2026-01-01T01:00:00Z"));
        check(json!([{"key": "down", "operator": "Exists"}]), old, None);
        let five_minutes = json!([{"key": "down", "operator": "Exists", "tolerationSeconds": 300}]);
        check(five_minutes.clone(), old, Some("2026-01-01T01:04:00Z"));
        check(
            five_minutes,
            "2026-01-01T00:59:30Z",
            Some("2026-01-01T01:04:30Z"),
        );
    }
}
