//! Whether a node takes part in a daemon set, and how its pod is bound to it. Pure.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    Toleration,
};

use crate::support::{affinity_matches, node_name, taints, tolerates_all};

const NAME_FIELD: &str = "metadata.name";

/// What a daemon set wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// A pod.
    Run,
    /// No new pod, but one that is there may stay.
    Keep,
    /// No pod.
    Avoid,
}

pub(super) fn placement(set: &DaemonSet, node: &Node) -> Placement {
    let mut spec = set
        .spec
        .as_ref()
        .and_then(|s| s.template.spec.clone())
        .unwrap_or_default();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let elsewhere = spec
        .node_name
        .as_deref()
        .is_some_and(|wanted| !wanted.is_empty() && wanted != name);
    if elsewhere || !affinity_matches(&spec, node) {
        return Placement::Avoid;
    }
    add_tolerations(&mut spec);
    let tolerations = spec.tolerations.unwrap_or_default();
    if tolerates_all(&tolerations, taints(node), &["NoSchedule", "NoExecute"]) {
        Placement::Run
    } else if tolerates_all(&tolerations, taints(node), &["NoExecute"]) {
        Placement::Keep
    } else {
        Placement::Avoid
    }
}

/// Daemon pods stay on nodes in trouble: they may be what helps, and they could run nowhere else.
pub(super) fn add_tolerations(spec: &mut PodSpec) {
    let mut wanted = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        wanted.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// Required affinity for the node of this name, in place of any other.
pub(super) fn pin_to_node(spec: &mut PodSpec, node: &str) {
    let term = NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![NodeSelectorRequirement {
            key: NAME_FIELD.into(),
            operator: "In".into(),
            values: Some(vec![node.into()]),
        }]),
    };
    let affinity: &mut NodeAffinity = spec
        .affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![term],
    });
}

/// The node that a pod is on, or is meant for.
pub(super) fn target_node(pod: &Pod) -> Option<&str> {
    if !node_name(pod).is_empty() {
        return Some(node_name(pod));
    }
    let affinity = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?;
    let terms = &affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?
        .node_selector_terms;
    let mut fields = terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let field = fields.find(|field| field.key == NAME_FIELD && field.operator == "In")?;
    field.values.as_ref()?.first().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(spec: serde_json::Value) -> DaemonSet {
        serde_json::from_value(json!({"spec": {"selector": {}, "template": {"spec": spec}}}))
            .expect("a daemon set")
    }

    #[test]
    fn nodes_take_part_by_selector_and_taints() {
        let check = |spec: serde_json::Value, taints: serde_json::Value, expect| {
            let node = json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}, "spec": {"taints": taints}});
            let node: Node = serde_json::from_value(node).expect("a node");
            assert_eq!(placement(&set(spec), &node), expect);
        };
        let plain = json!({"containers": []});
        check(plain.clone(), json!([]), Placement::Run);
        check(
            plain.clone(),
            json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]),
            Placement::Run,
        );
        check(
            plain.clone(),
            json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
            Placement::Run,
        );
        check(
            plain.clone(),
            json!([{"key": "gpu", "effect": "NoSchedule"}]),
            Placement::Keep,
        );
        check(
            plain,
            json!([{"key": "gpu", "effect": "NoExecute"}]),
            Placement::Avoid,
        );
        check(
            json!({"containers": [], "nodeSelector": {"disk": "hdd"}}),
            json!([]),
            Placement::Avoid,
        );
        check(
            json!({"containers": [], "nodeName": "other"}),
            json!([]),
            Placement::Avoid,
        );
    }

    #[test]
    fn a_pinned_pod_knows_its_node() {
        let mut spec = PodSpec::default();
        pin_to_node(&mut spec, "n7");
        let pod = Pod {
            spec: Some(spec),
            ..Pod::default()
        };
        assert_eq!(target_node(&pod), Some("n7"));
    }
}
