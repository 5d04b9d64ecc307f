//! Which daemon pods to make and to remove, and what the status says. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::placement::Placement;
use crate::support::history::REVISION_HASH;
use crate::support::{
    BURST_REPLICAS, Meta, is_available, is_ready, is_terminal, node_name, nonzero, phase,
};

/// A node and the set's pods on it.
#[derive(Clone, Debug, Default)]
pub(super) struct NodePods {
    /// None: there is no such node (any more).
    pub(super) placement: Option<Placement>,
    pub(super) pods: Vec<Arc<Pod>>,
}

/// What has to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Finished pods with their nodes; to be deleted, but not in a tight loop.
    pub(super) failed: Vec<(String, Arc<Pod>)>,
}

pub(super) fn is_updated(pod: &Pod, hash: &str) -> bool {
    pod.labels()
        .get(REVISION_HASH)
        .is_some_and(|label| label == hash)
}

pub(super) fn min_ready_seconds(set: &DaemonSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|s| s.min_ready_seconds)
        .unwrap_or(0)
}

pub(super) fn plan(by_node: &BTreeMap<String, NodePods>, surge: bool, hash: &str) -> Plan {
    let mut plan = Plan::default();
    for (node, NodePods { placement, pods }) in by_node {
        match placement {
            Some(Placement::Run) if pods.is_empty() => plan.create.push(node.clone()),
            Some(Placement::Run | Placement::Keep) => plan_node(&mut plan, node, pods, surge, hash),
            // Those already placed on a node that is gone are the pod garbage collector's.
            None => plan.delete.extend(
                pods.iter()
                    .filter(|p| !p.is_deleting() && node_name(p).is_empty())
                    .cloned(),
            ),
            Some(Placement::Avoid) => plan
                .delete
                .extend(pods.iter().filter(|p| !p.is_deleting()).cloned()),
        }
    }
    plan.create.truncate(BURST_REPLICAS);
    plan.delete.truncate(BURST_REPLICAS);
    plan
}

/// On a node that may have a pod: finished ones go, and of several running ones the oldest stays (while surging, the
/// oldest of each revision).
fn plan_node(plan: &mut Plan, node: &str, pods: &[Arc<Pod>], surge: bool, hash: &str) {
    let mut running: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods.iter().filter(|p| !p.is_deleting()) {
        match phase(pod) {
            "Failed" | "Succeeded" => plan.failed.push((node.to_owned(), pod.clone())),
            _ => running.push(pod),
        }
    }
    running.sort_by(|a, b| preference(a, b));
    if surge {
        let (new, old): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|pod| is_updated(pod, hash));
        plan.delete.extend(
            new.into_iter()
                .skip(1)
                .chain(old.into_iter().skip(1))
                .cloned(),
        );
    } else {
        plan.delete.extend(running.into_iter().skip(1).cloned());
    }
}

/// Pods on their node before others, then older before newer.
fn preference(a: &Pod, b: &Pod) -> std::cmp::Ordering {
    let placed = |pod: &Pod| !node_name(pod).is_empty();
    placed(b)
        .cmp(&placed(a))
        .then_with(|| a.created().cmp(&b.created()))
        .then_with(|| a.name().cmp(b.name()))
}

pub(super) fn status(
    set: &DaemonSet,
    by_node: &BTreeMap<String, NodePods>,
    hash: &str,
    now: Timestamp,
) -> DaemonSetStatus {
    let current = set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: Some(set.generation()),
        collision_count: current.collision_count,
        conditions: current.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for NodePods { placement, pods } in by_node.values() {
        match placement {
            Some(Placement::Run) => {
                status.desired_number_scheduled += 1;
                let mut pods: Vec<&Arc<Pod>> = pods.iter().filter(|p| !is_terminal(p)).collect();
                pods.sort_by(|a, b| is_ready(b).cmp(&is_ready(a)).then_with(|| preference(a, b)));
                let Some(pod) = pods.first() else { continue };
                status.current_number_scheduled += 1;
                status.number_ready += i32::from(is_ready(pod));
                available += i32::from(is_available(pod, min_ready_seconds(set), now));
                updated += i32::from(pods.iter().any(|pod| is_updated(pod, hash)));
            }
            Some(_) if !pods.is_empty() => status.number_misscheduled += 1,
            _ => {}
        }
    }
    status.number_available = nonzero(available);
    status.number_unavailable = nonzero(status.desired_number_scheduled - available);
    status.updated_number_scheduled = nonzero(updated);
    status
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A pod `NAME:HASH:STATE`, where the state is ready, unready, failed or deleting.
    pub(in super::super) fn pod(text: &str) -> Arc<Pod> {
        let parts: Vec<&str> = text.split(':').collect();
        let mut value = json!({
            "metadata": {"name": parts[0], "uid": parts[0], "labels": {REVISION_HASH: parts[1]},
                "creationTimestamp": format!("2026-01-0{}T00:00:00Z", parts[0].len())},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": if parts[2] == "failed" { "Failed" } else { "Running" }, "conditions": [
                {"type": "Ready", "status": if parts[2] == "ready" { "True" } else { "False" }}]},
        });
        if parts[2] == "deleting" {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    pub(in super::super) fn nodes(
        all: &[(&str, Placement, &[&str])],
    ) -> BTreeMap<String, NodePods> {
        let entry = |(name, placement, pods): &(&str, Placement, &[&str])| {
            let pods = pods.iter().map(|text| pod(text)).collect();
            (
                (*name).to_owned(),
                NodePods {
                    placement: Some(*placement),
                    pods,
                },
            )
        };
        all.iter().map(entry).collect()
    }

    pub(in super::super) fn text(plan: &Plan) -> String {
        let names = |pods: &[Arc<Pod>]| {
            pods.iter()
                .map(|p| p.name().to_owned())
                .collect::<Vec<_>>()
                .join(",")
        };
        let failed: Vec<Arc<Pod>> = plan.failed.iter().map(|(_, pod)| pod.clone()).collect();
        format!(
            "create {} delete {} failed {}",
            plan.create.join(","),
            names(&plan.delete),
            names(&failed)
        )
    }

    #[test]
    fn every_node_that_takes_part_gets_one_pod() {
        let by_node = nodes(&[
            ("avoided", Placement::Avoid, &["x:1:ready"]),
            ("crowded", Placement::Run, &["a:1:ready", "bb:1:ready"]),
            ("empty", Placement::Run, &[]),
            ("going", Placement::Run, &["g:1:deleting"]),
            ("kept", Placement::Keep, &["k:1:ready"]),
            ("unfit", Placement::Keep, &[]),
            ("broken", Placement::Run, &["f:1:failed"]),
        ]);
        assert_eq!(
            text(&plan(&by_node, false, "1")),
            "create empty delete x,bb failed f"
        );
    }

    #[test]
    fn a_surge_keeps_one_pod_of_each_revision() {
        let by_node = nodes(&[(
            "n",
            Placement::Run,
            &["a:1:ready", "bb:2:ready", "ccc:2:ready"],
        )]);
        assert_eq!(
            text(&plan(&by_node, true, "2")),
            "create  delete ccc failed "
        );
    }

    #[test]
    fn the_status_counts_nodes() {
        let set: DaemonSet =
            serde_json::from_value(json!({"metadata": {"generation": 2}})).expect("a daemon set");
        let by_node = nodes(&[
            ("a", Placement::Run, &["a:2:ready"]),
            ("b", Placement::Run, &["b:1:unready"]),
            ("c", Placement::Run, &[]),
            ("d", Placement::Avoid, &["d:1:ready"]),
        ]);
        let status = status(&set, &by_node, "2", Timestamp::UNIX_EPOCH);
        let numbers = (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_ready,
        );
        assert_eq!(numbers, (3, 2, 1));
        assert_eq!(
            (status.number_misscheduled, status.updated_number_scheduled),
            (1, Some(1))
        );
        assert_eq!(
            (status.number_available, status.number_unavailable),
            (Some(1), Some(2))
        );
    }
}
