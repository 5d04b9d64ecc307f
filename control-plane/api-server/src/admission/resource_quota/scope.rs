//! Scopes: which pods (and claims) a quota is about.

use api_machinery::{ObjectExt, Quantity};
use serde_json::{Value, json};

use crate::admission::pod_resources::{ResourceList, quantities};

/// Whether an object falls under all scopes of a quota. Scopes select pods, and claims by volume attributes class;
/// a quota with others matches nothing else.
pub(super) fn matches(quota: &Value, group: &str, resource: &str, object: &Value) -> bool {
    let plain = quota
        .list(&["spec", "scopes"])
        .iter()
        .map(|s| json!({"scopeName": s, "operator": "Exists"}));
    let selected = quota
        .list(&["spec", "scopeSelector", "matchExpressions"])
        .iter()
        .cloned();
    plain.chain(selected).all(|scope| match (group, resource) {
        ("", "pods") => pod_matches(&scope, object),
        ("", "persistentvolumeclaims") => {
            let class = object.text(&["spec", "volumeAttributesClassName"]);
            scope.text(&["scopeName"]) == "VolumeAttributesClass" && selects(&scope, class)
        }
        _ => false,
    })
}

fn pod_matches(scope: &Value, pod: &Value) -> bool {
    let terminating = pod
        .number(&["spec", "activeDeadlineSeconds"])
        .is_some_and(|s| s >= 0);
    match scope.text(&["scopeName"]) {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => selects(scope, pod.text(&["spec", "priorityClassName"])),
        "CrossNamespacePodAffinity" => has_cross_namespace_affinity(pod),
        _ => false,
    }
}

fn selects(scope: &Value, value: &str) -> bool {
    let listed = scope.list(&["values"]).iter().any(|v| v == value);
    match scope.text(&["operator"]) {
        "Exists" => !value.is_empty(),
        "DoesNotExist" => value.is_empty(),
        "In" => !value.is_empty() && listed,
        "NotIn" => !listed,
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let sets = |holder: &Value| {
        ["requests", "limits"].iter().any(|field| {
            let list: ResourceList = quantities(holder.field(&["resources", field]));
            ["cpu", "memory"]
                .iter()
                .any(|r| list.get(*r).is_some_and(|q| *q > Quantity::ZERO))
        })
    };
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|f| pod.list(&["spec", f]));
    !sets(&pod["spec"]) && !containers.into_iter().any(sets)
}

fn has_cross_namespace_affinity(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        !term.list(&["namespaces"]).is_empty() || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][kind];
        affinity
            .list(&["requiredDuringSchedulingIgnoredDuringExecution"])
            .iter()
            .any(crosses)
            || affinity
                .list(&["preferredDuringSchedulingIgnoredDuringExecution"])
                .iter()
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}
