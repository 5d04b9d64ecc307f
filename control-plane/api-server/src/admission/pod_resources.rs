//! What a pod asks for as a whole: its containers' requests and limits, added up as the scheduler does.

use std::collections::BTreeMap;

use api_machinery::{ObjectExt, Quantity};
use serde_json::Value;

pub(super) type ResourceList = BTreeMap<String, Quantity>;

/// Resources that can be set for a pod as a whole.
fn is_pod_level(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// A map of quantities; what is not one is left out.
pub(super) fn quantities(value: Option<&Value>) -> ResourceList {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs
        .filter_map(|(k, v)| Some((k.clone(), quantity(v)?)))
        .collect()
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

pub(super) fn add(sum: &mut ResourceList, other: &ResourceList) {
    for (resource, amount) in other {
        let held = sum.get(resource).copied().unwrap_or(Quantity::ZERO);
        sum.insert(resource.clone(), held + *amount);
    }
}

fn raise(most: &mut ResourceList, other: &ResourceList) {
    for (resource, amount) in other {
        if most.get(resource).is_none_or(|held| held < amount) {
            most.insert(resource.clone(), *amount);
        }
    }
}

/// The pod's `requests` or `limits` (`field`): all containers and sidecars at once, or the init container that needs
/// more, or what is set for the pod as a whole.
pub(super) fn pod_total(pod: &Value, field: &str) -> ResourceList {
    let of = |container: &Value| quantities(container.field(&["resources", field]));
    let mut total = ResourceList::new();
    for container in pod.list(&["spec", "containers"]) {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut init) = (ResourceList::new(), ResourceList::new());
    for container in pod.list(&["spec", "initContainers"]) {
        let mut needed = of(container);
        if container.text(&["restartPolicy"]) == "Always" {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut init, &needed);
    }
    raise(&mut total, &init);
    for (resource, amount) in quantities(pod.field(&["spec", "resources", field])) {
        if is_pod_level(&resource) {
            total.insert(resource, amount);
        }
    }
    total
}

/// [`pod_total`] with the runtime's overhead.
pub(super) fn pod_charge(pod: &Value, field: &str) -> ResourceList {
    let mut total = pod_total(pod, field);
    let mut overhead = quantities(pod.field(&["spec", "overhead"]));
    if field == "limits" {
        // Where there is no limit, overhead does not make one.
        overhead.retain(|resource, _| total.contains_key(resource));
    }
    add(&mut total, &overhead);
    total
}
