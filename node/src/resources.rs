//! Requests and limits in the kernel's terms: QoS class, CPU shares and quota, OOM score. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::spec;
use crate::quantity::{milli, value};

/// Length of a CFS period, in microseconds.
pub(crate) const CPU_PERIOD_US: i64 = 100_000;
/// The smallest quota that the kernel takes, in microseconds.
const MIN_QUOTA_US: i64 = 1000;
/// The fewest shares that the kernel takes.
const MIN_SHARES: i64 = 2;
/// The most shares that the kernel takes.
const MAX_SHARES: i64 = 262_144;

/// Quality of service, by which the kernel kills in need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

fn get(map: &Option<BTreeMap<String, Quantity>>, name: &str) -> Option<Quantity> {
    map.as_ref().and_then(|m| m.get(name)).cloned()
}

fn requirements(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

/// What the container asks for of `name`; a limit stands in for a missing request.
pub(crate) fn request(container: &Container, name: &str) -> Option<Quantity> {
    let r = requirements(container);
    get(&r.requests, name).or_else(|| get(&r.limits, name))
}

/// What the container may not exceed of `name`.
pub(crate) fn limit(container: &Container, name: &str) -> Option<Quantity> {
    get(&requirements(container).limits, name)
}

/// The class that the API shows and the cgroup tree follows.
pub(crate) fn qos_class(pod: &Pod) -> QosClass {
    if let Some(class) = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        return match class {
            "Guaranteed" => QosClass::Guaranteed,
            "Burstable" => QosClass::Burstable,
            _ => QosClass::BestEffort,
        };
    }
    let mut any = false;
    let mut guaranteed = true;
    for container in spec::all_containers(pod) {
        for (name, amount) in [("cpu", milli as fn(&Quantity) -> i64), ("memory", value)] {
            let asked = request(container, name).map_or(0, |q| amount(&q));
            let limited = limit(container, name).map_or(0, |q| amount(&q));
            any |= asked > 0 || limited > 0;
            guaranteed &= limited > 0 && asked == limited;
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// Millicores to the kernel's shares.
pub(crate) fn cpu_shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 {
        MIN_SHARES
    } else {
        (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
    }
}

/// Millicores to a quota in each period; 0 for none.
pub(crate) fn cpu_quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 {
        0
    } else {
        (milli_cpu * CPU_PERIOD_US / 1000).max(MIN_QUOTA_US)
    }
}

/// How readily the kernel kills the container when memory runs out.
pub(crate) fn oom_score_adj(pod: &Pod, container: &Container, node_memory_bytes: i64) -> i64 {
    if pod
        .spec
        .as_ref()
        .and_then(|s| s.priority)
        .is_some_and(|p| p >= 2_000_000_000)
    {
        return -997;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let asked = request(container, "memory").map_or(0, |q| value(&q));
            (1000 - 1000 * asked / node_memory_bytes.max(1)).clamp(3, 999)
        }
    }
}

/// What a whole pod asks for and may use: (CPU request, CPU limit) in millicores and memory limit in bytes. A limit is 0 where some
/// container has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PodResources {
    pub(crate) cpu_request: i64,
    pub(crate) cpu_limit: i64,
    pub(crate) memory_limit: i64,
}

/// Sums over the containers that run together; a larger init container counts instead.
pub(crate) fn pod_resources(pod: &Pod) -> PodResources {
    let of = |name: &str, amount: fn(&Quantity) -> i64, limits: bool| {
        let one = |c: &Container| {
            (if limits {
                limit(c, name)
            } else {
                request(c, name)
            })
            .map_or(0, |q| amount(&q))
        };
        let together = spec::containers(pod).iter().chain(
            spec::init_containers(pod)
                .iter()
                .filter(|c| spec::is_sidecar(c)),
        );
        let sum: i64 = together.map(one).sum();
        let largest = spec::init_containers(pod)
            .iter()
            .map(one)
            .max()
            .unwrap_or(0);
        let unlimited = limits && spec::all_containers(pod).any(|c| one(c) == 0);
        if unlimited { 0 } else { sum.max(largest) }
    };
    PodResources {
        cpu_request: of("cpu", milli, false),
        cpu_limit: of("cpu", milli, true),
        memory_limit: of("memory", value, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers}})).expect("a pod")
    }

    #[test]
    fn qos_classes() {
        let check = |resources: Value, expect| {
            assert_eq!(
                qos_class(&pod(json!([{"name": "a", "resources": resources}]))),
                expect,
                "{resources}"
            );
        };
        check(json!({}), QosClass::BestEffort);
        check(
            json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
            QosClass::Guaranteed,
        );
        check(
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}),
            QosClass::Guaranteed,
        );
        check(json!({"limits": {"cpu": "1"}}), QosClass::Burstable);
        check(json!({"requests": {"memory": "1"}}), QosClass::Burstable);
    }

    #[test]
    fn kernel_units() {
        assert_eq!([cpu_shares(0), cpu_shares(1), cpu_shares(250)], [2, 2, 256]);
        assert_eq!(
            [cpu_quota(0), cpu_quota(1), cpu_quota(250)],
            [0, 1000, 25_000]
        );
    }

    #[test]
    fn sums_and_unlimited() {
        let two = pod(
            json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Ki"}}},
            {"name": "b", "resources": {"requests": {"cpu": "500m"}}}]),
        );
        let expect = PodResources {
            cpu_request: 1500,
            cpu_limit: 0,
            memory_limit: 0,
        };
        assert_eq!(pod_resources(&two), expect);
    }
}
