//! What one object uses of each quota resource.

use std::collections::{BTreeMap, BTreeSet};

use api_machinery::{ObjectExt, Quantity, QuantityFormat};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::admission::pod_resources::{ResourceList, pod_charge, quantities};

/// Kinds that are also counted under their plain name.
const PLAIN_NAMES: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
const COMPUTE: [&str; 9] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// Where a quota tracks these, every container must set them.
const MUST_BE_SET: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const STORAGE_CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";

fn one() -> Quantity {
    Quantity::from_integer(1, QuantityFormat::DecimalSi)
}

/// `count/RESOURCE.GROUP`.
fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() {
        format!("count/{resource}")
    } else {
        format!("count/{resource}.{group}")
    }
}

/// Whether objects of a kind count towards the quota resource `name`.
pub(super) fn counts(group: &str, resource: &str, name: &str) -> bool {
    if name == count_name(group, resource) {
        return true;
    }
    if !group.is_empty() {
        return false;
    }
    match resource {
        _ if PLAIN_NAMES.contains(&resource) && name == resource => true,
        "pods" => {
            let extended = name.strip_prefix("requests.").is_some_and(is_extended);
            COMPUTE.contains(&name) || is_huge_pages(name) || extended
        }
        "services" => matches!(name, "services.loadbalancers" | "services.nodeports"),
        "persistentvolumeclaims" => {
            name == "requests.storage" || name.contains(STORAGE_CLASS_SUFFIX)
        }
        _ => false,
    }
}

fn is_extended(resource: &str) -> bool {
    resource.contains('/') && !resource.contains(STORAGE_CLASS_SUFFIX)
}

fn is_huge_pages(name: &str) -> bool {
    name.strip_prefix("requests.")
        .unwrap_or(name)
        .starts_with("hugepages-")
}

/// What one object uses.
pub(super) fn of(group: &str, resource: &str, object: &Value) -> ResourceList {
    let mut usage = ResourceList::from([(count_name(group, resource), one())]);
    if !group.is_empty() {
        return usage;
    }
    match resource {
        "pods" => usage.extend(if is_over(object) {
            ResourceList::new()
        } else {
            of_pod(object)
        }),
        "services" => usage.extend(of_service(object)),
        "persistentvolumeclaims" => usage.extend(of_claim(object)),
        _ => {}
    }
    if PLAIN_NAMES.contains(&resource) && resource != "pods" {
        usage.insert(resource.into(), one());
    }
    usage
}

/// A pod that has ended, or should have, gives back what it used.
fn is_over(pod: &Value) -> bool {
    if matches!(pod.text(&["status", "phase"]), "Failed" | "Succeeded") {
        return true;
    }
    let deleted = pod
        .text(&["metadata", "deletionTimestamp"])
        .parse::<Timestamp>()
        .ok();
    let grace = pod.number(&["metadata", "deletionGracePeriodSeconds"]);
    deleted
        .zip(grace)
        .is_some_and(|(at, grace)| at + SignedDuration::from_secs(grace) < Timestamp::now())
}

fn of_pod(pod: &Value) -> ResourceList {
    let mut usage = compute(&pod_charge(pod, "requests"), &pod_charge(pod, "limits"));
    usage.insert("pods".into(), one());
    usage
}

fn compute(requests: &ResourceList, limits: &ResourceList) -> ResourceList {
    let mut usage = ResourceList::new();
    for (name, amount) in requests {
        let native =
            matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || is_huge_pages(name);
        if native {
            usage.insert(name.clone(), *amount);
        }
        if native || is_extended(name) {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    usage
}

fn of_service(service: &Value) -> ResourceList {
    let ports = service.list(&["spec", "ports"]);
    let balanced = service.text(&["spec", "type"]) == "LoadBalancer";
    let node_ports = match service.text(&["spec", "type"]) {
        "NodePort" => ports.len(),
        // Without node ports of its own it uses those that were asked for.
        "LoadBalancer" if service["spec"]["allocateLoadBalancerNodePorts"] == false => ports
            .iter()
            .filter(|p| p.number(&["nodePort"]).is_some_and(|n| n != 0))
            .count(),
        "LoadBalancer" => ports.len(),
        _ => 0,
    };
    let number = |n: i64| Quantity::from_integer(n, QuantityFormat::DecimalSi);
    ResourceList::from([
        ("services.nodeports".into(), number(node_ports as i64)),
        ("services.loadbalancers".into(), number(i64::from(balanced))),
    ])
}

fn of_claim(claim: &Value) -> ResourceList {
    let mut usage = ResourceList::new();
    let class = claim.text(&["spec", "storageClassName"]);
    if !class.is_empty() {
        usage.insert(
            format!("{class}{STORAGE_CLASS_SUFFIX}persistentvolumeclaims"),
            one(),
        );
    }
    if let Some(size) = quantities(claim.field(&["spec", "resources", "requests"])).get("storage") {
        usage.insert("requests.storage".into(), *size);
        if !class.is_empty() {
            usage.insert(
                format!("{class}{STORAGE_CLASS_SUFFIX}requests.storage"),
                *size,
            );
        }
    }
    usage
}

/// The sentence about what the pod's containers must set for a quota that tracks `tracked`; none if nothing is missing.
pub(super) fn missing_requests(pod: &Value, tracked: &[&String]) -> Option<String> {
    if pod["spec"]["resources"]
        .as_object()
        .is_some_and(|r| !r.is_empty())
    {
        return None;
    }
    let required = tracked
        .iter()
        .filter(|name| MUST_BE_SET.contains(&name.as_str()));
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in required {
        for container in ["containers", "initContainers"]
            .iter()
            .flat_map(|f| pod.list(&["spec", f]))
        {
            let of = |field| quantities(container.field(&["resources", field]));
            if !compute(&of("requests"), &of("limits")).contains_key(*name) {
                missing
                    .entry(name.as_str())
                    .or_default()
                    .insert(container.text(&["name"]));
            }
        }
    }
    let parts: Vec<String> = missing
        .iter()
        .map(|(name, containers)| {
            format!(
                "{name} for: {}",
                containers.iter().copied().collect::<Vec<_>>().join(",")
            )
        })
        .collect();
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}
