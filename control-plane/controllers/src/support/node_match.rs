//! Whether a node may run a pod: node selector, required node affinity, taints. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

use super::{Meta, matches_all};

/// Node selector and required node affinity both hold.
pub(crate) fn affinity_matches(spec: &PodSpec, node: &Node) -> bool {
    let selected = spec
        .node_selector
        .as_ref()
        .is_none_or(|wanted| matches_all(wanted, node.labels()));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    selected
        && required.is_none_or(|selector| {
            selector
                .node_selector_terms
                .iter()
                .any(|term| term_matches(term, node))
        })
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let named = BTreeMap::from([("metadata.name".to_owned(), node.name().to_owned())]);
    expressions
        .iter()
        .all(|r| requirement_holds(r, node.labels()))
        && fields.iter().all(|r| requirement_holds(r, &named))
}

fn requirement_holds(
    requirement: &NodeSelectorRequirement,
    labels: &BTreeMap<String, String>,
) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|v| values.contains(v));
    let numbers =
        || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(actual, limit)| actual > limit),
        "Lt" => numbers().is_some_and(|(actual, limit)| actual < limit),
        _ => false,
    }
}

pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    }
}

/// Whether every taint with one of `effects` is tolerated.
pub(crate) fn tolerates_all(
    tolerations: &[Toleration],
    taints: &[Taint],
    effects: &[&str],
) -> bool {
    let mut relevant = taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()));
    relevant.all(|taint| {
        tolerations
            .iter()
            .any(|toleration| tolerates(toleration, taint))
    })
}

pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default()
}

pub(crate) fn is_ready_node(node: &Node) -> bool {
    let mut conditions = node
        .status
        .iter()
        .filter_map(|s| s.conditions.as_ref())
        .flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn affinity() {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}}),
        )
        .expect("a node");
        let check = |term: serde_json::Value, expect| {
            let spec: PodSpec =
                serde_json::from_value(json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}))
                .expect("a spec");
            assert_eq!(affinity_matches(&spec, &node), expect, "{term}");
        };
        let one = |key: &str, op: &str, value: &str| json!({"matchExpressions": [{"key": key, "operator": op, "values": [value]}]});
        check(one("zone", "In", "a"), true);
        check(one("zone", "NotIn", "a"), false);
        check(one("cores", "Gt", "4"), true);
        check(one("cores", "Lt", "4"), false);
        check(
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}),
            true,
        );
        check(
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}),
            false,
        );
        check(json!({}), false);
    }

    #[test]
    fn tolerations() {
        let taint = Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: "NoExecute".into(),
            time_added: None,
        };
        let check = |toleration: serde_json::Value, expect| {
            let toleration: Toleration = serde_json::from_value(toleration).expect("a toleration");
            assert_eq!(tolerates(&toleration, &taint), expect, "{toleration:?}");
        };
        check(json!({"operator": "Exists"}), true);
        check(
            json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}),
            false,
        );
        check(json!({"key": "k", "value": "v"}), true);
        check(json!({"key": "k", "value": "x"}), false);
    }
}
