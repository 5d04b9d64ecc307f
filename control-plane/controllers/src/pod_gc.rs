//! Pod garbage collector: removes pods that nobody else will ever remove.
//!
//! Those on nodes that no longer exist, those deleted before they were placed, those stuck on nodes that were declared out
//! of service or that have ended their pods by themselves, and the oldest finished ones when there are too many.

use std::collections::HashMap;
use std::sync::Arc;

use api_client::{Change, DeleteOptions, Informer, ObjectKey, Patch, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, Controller, Queue, until};
use crate::error::Outcome;
use crate::node_lifecycle::{BY_NODE, pods_by_node};
use crate::support::{Meta, is_ready_node, is_terminal, node_name, phase, taints};
use crate::taint_eviction::{disruption_target, eviction_time};

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// On nodes whose agents end their pods when they reach no master (`--self-fence`).
const SELF_FENCE: &str = "xebec.io/self-fence";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Such an agent ends no pod sooner than this after its last contact.
const FENCE_PATIENCE: SignedDuration = SignedDuration::from_secs(40);
/// A node may be missing for this long before its pods are: it may be registering again.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
/// Index: every finished pod.
const FINISHED: &str = "finished";

/// The key that stands for all finished pods together.
fn finished_key() -> ObjectKey {
    ObjectKey::default()
}

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let pods = pods_by_node(context);
    let nodes = context.informer::<Node>();
    pods.add_index(FINISHED, |pod| {
        if is_terminal(pod) {
            vec![FINISHED.to_owned()]
        } else {
            Vec::new()
        }
    });
    let (keys, placed) = (queue.clone(), nodes.clone());
    pods.on_change(move |change| {
        let Change::Applied { new, .. } = change else {
            return;
        };
        if is_terminal(new) {
            keys.add(finished_key());
        }
        let node = node_name(new);
        if new.is_deleting()
            || (!node.is_empty() && placed.get(&ObjectKey::new("", node)).is_none())
        {
            keys.add(ObjectKey::of(new.as_ref()));
        }
    });
    let (keys, on_node) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        let node = change.object();
        if matches!(change, Change::Deleted(_)) || is_out_of_service(node) || is_fencing(node) {
            on_node
                .by_index(BY_NODE, node.name())
                .iter()
                .for_each(|pod| keys.add(ObjectKey::of(pod.as_ref())));
        }
    });
    Arc::new(PodGc {
        context: context.clone(),
        queue: queue.clone(),
        pods,
        nodes,
        missing: Mutex::default(),
    })
}

fn is_out_of_service(node: &Node) -> bool {
    !is_ready_node(node) && taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Whether the node's agent ends its pods by now.
fn is_fencing(node: &Node) -> bool {
    let mut annotations = node.metadata.annotations.iter().flatten();
    annotations.any(|(key, value)| key == SELF_FENCE && value == "true") && is_unreachable(node)
}

fn is_unreachable(node: &Node) -> bool {
    taints(node)
        .iter()
        .any(|taint| taint.key == UNREACHABLE && taint.effect == "NoExecute")
}

/// When a node that fences itself has surely ended the pod: it began at the latest when the pod had to go, and then takes the
/// pod's own time to end.
fn fenced_at(pod: &Pod, node: &Node, now: Timestamp) -> Option<Timestamp> {
    let unreachable: Vec<Taint> = taints(node)
        .iter()
        .filter(|taint| is_fencing(node) && taint.key == UNREACHABLE)
        .cloned()
        .collect();
    let evicted = eviction_time(pod, &unreachable, now)?;
    let mut since = unreachable
        .iter()
        .filter_map(|taint| taint.time_added.as_ref());
    let begun = evicted.max(since.next()?.0 + FENCE_PATIENCE);
    let spec = pod.spec.as_ref()?;
    let grace = spec.termination_grace_period_seconds.unwrap_or(30).max(0);
    Some(begun + SignedDuration::from_secs(grace))
}

struct PodGc {
    context: Context,
    queue: Queue,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    /// Since when a node has been missed.
    missing: Mutex<HashMap<String, Timestamp>>,
}

#[async_trait]
impl Controller for PodGc {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        if *key == finished_key() {
            return self.trim_finished().await;
        }
        let Some(pod) = self.pods.get(key) else {
            return Ok(());
        };
        let node = node_name(&pod);
        if node.is_empty() {
            return if pod.is_deleting() {
                self.remove(&pod, None).await
            } else {
                Ok(())
            };
        }
        match self.nodes.get(&ObjectKey::new("", node)) {
            Some(known) => {
                self.missing.lock().remove(node);
                if !pod.is_deleting() {
                    return Ok(());
                }
                if is_out_of_service(&known) {
                    return self.remove(&pod, None).await;
                }
                self.fenced(key, &pod, &known).await
            }
            None => self.orphaned(key, &pod, node).await,
        }
    }
}

impl PodGc {
    /// Removes the pod once its node, which cannot say so, has ended it.
    async fn fenced(&self, key: &ObjectKey, pod: &Pod, node: &Node) -> Outcome {
        let now = self.context.now();
        match fenced_at(pod, node, now) {
            Some(at) if at > now => {
                self.queue.add_after(key.clone(), until(now, at));
                Ok(())
            }
            Some(_) => self.remove(pod, None).await,
            None => Ok(()),
        }
    }

    async fn orphaned(&self, key: &ObjectKey, pod: &Pod, node: &str) -> Outcome {
        let now = self.context.now();
        let since = *self.missing.lock().entry(node.to_owned()).or_insert(now);
        if now < since + QUARANTINE {
            self.queue
                .add_after(key.clone(), until(now, since + QUARANTINE));
            return Ok(());
        }
        match self.context.client.get::<Node>(None, node).await {
            Ok(_) => {
                self.missing.lock().remove(node);
                Ok(())
            }
            Err(status) if is_not_found(&status) => {
                self.remove(
                    pod,
                    Some(("DeletionByPodGC", "PodGC: node no longer exists")),
                )
                .await
            }
            Err(status) => Err(status.into()),
        }
    }

    async fn trim_finished(&self) -> Outcome {
        let finished = self.pods.by_index(FINISHED, FINISHED);
        for pod in surplus(finished, self.context.options.terminated_pod_gc_threshold) {
            self.remove(&pod, None).await?;
        }
        Ok(())
    }

    /// Deletes the pod at once: nobody is left to shut it down. What was still running counts as failed.
    async fn remove(&self, pod: &Pod, disruption: Option<(&str, &str)>) -> Outcome {
        let namespace = Some(pod.namespace());
        if !is_terminal(pod) {
            let now = self.context.now();
            let mut patch = match disruption {
                Some(reason) => disruption_target(pod, reason, now),
                None => json!({"metadata": {"uid": pod.uid()}}),
            };
            patch["status"]["phase"] = json!("Failed");
            match self
                .context
                .client
                .patch::<Pod>(namespace, pod.name(), "status", &Patch::Strategic(patch))
                .await
            {
                Err(status) if is_not_found(&status) => return Ok(()),
                answer => answer?,
            };
        }
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        match self
            .context
            .client
            .delete::<Pod>(namespace, pod.name(), &options)
            .await
        {
            Err(status) if !is_not_found(&status) => Err(status.into()),
            _ => Ok(()),
        }
    }
}

/// Finished pods beyond the threshold (zero keeps all), evicted ones first, then the oldest.
fn surplus(mut finished: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    if threshold == 0 || finished.len() <= threshold {
        return Vec::new();
    }
    let evicted = |pod: &Pod| {
        phase(pod) == "Failed"
            && pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted")
    };
    finished.sort_by(|a, b| {
        let order = evicted(b).cmp(&evicted(a));
        order
            .then_with(|| a.created().cmp(&b.created()))
            .then_with(|| a.name().cmp(b.name()))
    });
    finished.truncate(finished.len() - threshold);
    finished
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_a_node_that_fences_itself_are_gone_in_time() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let check = |fences: &str, seconds: i64, grace: i64, expect: Option<&str>| {
            let node = json!({"metadata": {"annotations": {SELF_FENCE: fences}}, "spec": {"taints": [
                {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-01-01T00:59:00Z"}]}});
            let toleration =
                json!({"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": seconds});
            let pod = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": [],
                "terminationGracePeriodSeconds": grace, "tolerations": [toleration]}});
            let node = serde_json::from_value(node).expect("a node");
            let pod = serde_json::from_value(pod).expect("a pod");
            let found = fenced_at(&pod, &node, now).map(|at| at.to_string());
            assert_eq!(found.as_deref(), expect);
        };
        check("true", 300, 10, Some("2026-01-01T01:04:10Z"));
        check("true", 0, 10, Some("2026-01-01T00:59:50Z"));
        check("false", 0, 10, None);
    }

    #[test]
    fn evicted_and_old_pods_go_first() {
        let pod = |name: &str, day: i32, reason: &str| {
            let value = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-0{day}T00:00:00Z")},
                "status": {"phase": "Failed", "reason": reason}});
            Arc::new(serde_json::from_value::<Pod>(value).expect("a pod"))
        };
        let all = vec![
            pod("old", 1, ""),
            pod("new", 3, ""),
            pod("evicted", 2, "Evicted"),
        ];
        let names = |threshold| -> Vec<String> {
            surplus(all.clone(), threshold)
                .iter()
                .map(|p| p.name().to_owned())
                .collect()
        };
        assert_eq!(names(1), ["evicted", "old"]);
        assert_eq!(names(2), ["evicted"]);
        assert!(names(3).is_empty() && names(0).is_empty());
    }
}
