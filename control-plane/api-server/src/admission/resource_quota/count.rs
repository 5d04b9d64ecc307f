//! The usage of a whole namespace, counted from the watch caches: what a quota's status should say.

use api_machinery::{ObjectExt, Quantity};
use serde_json::{Value, json};

use super::{scope, to_value, usage};
use crate::admission::pod_resources::{ResourceList, add, quantities};
use crate::plugin::ObjectReader;

/// Kinds with more to count than their objects.
pub(super) const MEASURED: [&str; 7] = [
    "pods",
    "services",
    "persistentvolumeclaims",
    "configmaps",
    "secrets",
    "replicationcontrollers",
    "resourcequotas",
];

/// What the namespace of `quota` uses of each resource that it limits.
pub(super) fn usage(reader: &dyn ObjectReader, quota: &Value) -> ResourceList {
    let hard = quantities(quota.field(&["spec", "hard"]));
    let mut used: ResourceList = hard
        .keys()
        .map(|name| (name.clone(), Quantity::ZERO))
        .collect();
    let mut kinds: Vec<(String, String)> = MEASURED
        .iter()
        .map(|r| (String::new(), (*r).to_owned()))
        .collect();
    for name in hard.keys().filter_map(|name| name.strip_prefix("count/")) {
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        let kind = (group.to_owned(), resource.to_owned());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for (group, resource) in kinds {
        if !hard
            .keys()
            .any(|name| usage::counts(&group, &resource, name))
        {
            continue;
        }
        for object in reader.list(&group, &resource, Some(quota.namespace())) {
            if scope::matches(quota, &group, &resource, &object) {
                let mut one = usage::of(&group, &resource, &object);
                one.retain(|name, _| hard.contains_key(name));
                add(&mut used, &one);
            }
        }
    }
    used
}

/// The status that a quota should have by the caches; none if it has it.
pub(super) fn quota_status(reader: &dyn ObjectReader, quota: &Value) -> Option<Value> {
    let used = usage(reader, quota);
    let held = quantities(quota.field(&["status", "used"]));
    if held == used && quota["status"]["hard"] == quota["spec"]["hard"] {
        return None;
    }
    Some(json!({"hard": quota["spec"]["hard"], "used": to_value(&used)}))
}
