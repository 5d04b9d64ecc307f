//! Questions about pods that several controllers ask, and the order in which surplus pods are deleted.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Meta;

/// Annotation: pods with a lower number are deleted first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

/// Succeeded or failed: its containers will not run again.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.is_deleting()
}

/// Being deleted but not finished.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.is_deleting()
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")
        .filter(|c| c.status == "True")?
        .last_transition_time
        .as_ref()
        .map(|t| t.0)
}

/// Ready for at least `min_ready_seconds`.
pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds == 0
            || available_in(pod, min_ready_seconds, now) == Some(Duration::ZERO))
}

/// How long a ready pod still has to stay so until it counts as available.
pub(crate) fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let at = ready_since(pod)? + SignedDuration::from_secs(min_ready_seconds.into());
    Some(crate::context::until(now, at))
}

/// When the next of `pods` will become available by the passing of time alone.
pub(crate) fn next_availability<'a>(
    pods: impl IntoIterator<Item = &'a Arc<Pod>>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    if min_ready_seconds == 0 {
        return None;
    }
    pods.into_iter()
        .filter_map(|p| available_in(p, min_ready_seconds, now))
        .filter(|d| !d.is_zero())
        .min()
}

/// A pod made from a template, for `owner`; the caller names it.
pub(crate) fn pod_from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    owner: OwnerReference,
) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            namespace: Some(namespace.into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The `count` pods whose loss hurts least. `related` are all pods that serve the same purpose: a pod that shares its node
/// with more of them goes first.
pub(crate) fn pods_to_delete(
    pods: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut chosen = pods.to_vec();
    if count < pods.len() {
        let mut on_node: HashMap<&str, usize> = HashMap::new();
        for pod in related.iter().filter(|p| is_active(p)) {
            *on_node.entry(node_name(pod)).or_default() += 1;
        }
        let rank = |pod: &Pod| on_node.get(node_name(pod)).copied().unwrap_or(0);
        chosen.sort_by(|a, b| deletion_order(a, b, rank(a), rank(b), now));
    }
    chosen.truncate(count);
    chosen
}

/// Less means: deleted earlier.
fn deletion_order(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: Timestamp) -> Ordering {
    let assigned = |pod| !node_name(pod).is_empty();
    let age = |a: Timestamp, b: Timestamp| {
        if a == b {
            Ordering::Equal
        } else {
            logarithmic_age(a, now).cmp(&logarithmic_age(b, now))
        }
    };
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| match (ready_since(a), ready_since(b)) {
            (Some(at), Some(bt)) if at != bt => age(at, bt).then_with(|| a.uid().cmp(b.uid())),
            _ => Ordering::Equal,
        })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| age(a.created(), b.created()))
        .then_with(|| a.uid().cmp(b.uid()))
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.annotation(DELETION_COST)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

/// Most restarts of any container, then of any sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else {
        return (0, 0);
    };
    let containers = status
        .container_statuses
        .iter()
        .flatten()
        .map(|c| c.restart_count)
        .max()
        .unwrap_or(0);
    let sidecar = |name: &str| {
        let init = pod
            .spec
            .iter()
            .filter_map(|s| s.init_containers.as_ref())
            .flatten()
            .find(|c| c.name == name);
        init.is_some_and(|c| c.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars = status
        .init_container_statuses
        .iter()
        .flatten()
        .filter(|c| sidecar(&c.name));
    (
        containers,
        sidecars.map(|c| c.restart_count).max().unwrap_or(0),
    )
}

/// Ages are compared by magnitude, so that among pods of about the same age the choice is spread.
fn logarithmic_age(since: Timestamp, now: Timestamp) -> i64 {
    match now.duration_since(since).as_nanos() {
        nanoseconds if nanoseconds > 0 => i64::from(nanoseconds.ilog2()),
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, phase: &str, ready: bool, cost: i32) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        let value = json!({
            "metadata": {"name": name, "uid": name, "annotations": {DELETION_COST: cost.to_string()}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let now = "2026-01-01T01:00:00Z".parse().expect("a time");
        let pods = [
            pod("crowded", "n1", "Running", true, 0),
            pod("alone", "n2", "Running", true, 0),
            pod("cheap", "n2", "Running", true, -5),
            pod("unready", "n3", "Running", false, 9),
            pod("pending", "n3", "Pending", false, 9),
            pod("unassigned", "", "Pending", false, 9),
        ];
        let related = [
            pods[0].clone(),
            pod("other", "n1", "Running", true, 0),
            pods[1].clone(),
        ];
        let names = |count| -> Vec<String> {
            pods_to_delete(&pods, &related, count, now)
                .iter()
                .map(|p| p.name().to_owned())
                .collect()
        };
        assert_eq!(
            names(5),
            ["unassigned", "pending", "unready", "cheap", "crowded"]
        );
    }

    #[test]
    fn a_pod_is_available_when_it_was_ready_long_enough() {
        let pod = pod("a", "n", "Running", true, 0);
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert!(is_available(&pod, 0, at("2026-01-01T00:00:00Z")));
        assert!(!is_available(&pod, 10, at("2026-01-01T00:00:09Z")));
        assert!(is_available(&pod, 10, at("2026-01-01T00:00:10Z")));
        let wait = next_availability([&pod], 10, at("2026-01-01T00:00:04Z"));
        assert_eq!(wait, Some(Duration::from_secs(6)));
    }
}
