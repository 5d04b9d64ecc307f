//! The taints that a node's conditions call for. Pure.
//!
//! NoSchedule follows the conditions at once. NoExecute, which drives pods away, is held back when most of a zone or all
//! nodes are down: then the fault is more likely between them and us.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::health::{condition, ready_status};
use crate::support::{Meta, taints};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Keys of the NoSchedule taints that belong to this controller.
const NO_SCHEDULE: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/unschedulable",
];
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// A zone counts as partly down from this share of its nodes, in percent, and from this number.
const UNHEALTHY_ZONE_PERCENT: usize = 55;
const UNHEALTHY_ZONE_NODES: usize = 3;
/// Larger zones go on evicting, though slowly, even when partly down.
const LARGE_ZONE_NODES: usize = 50;

/// Whether pods may be driven off a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    Now,
    Later(Timestamp),
    /// Not while so many others are down.
    Held,
    /// All nodes are down: even what is under way stops.
    Stopped,
}

impl Eviction {
    pub(super) fn decide(node: &Node, nodes: &[Arc<Node>]) -> Self {
        let zone_of_node = zone(node);
        let members: Vec<_> = nodes
            .iter()
            .filter(|n| zone(n) == zone_of_node && !is_excluded(n))
            .collect();
        let down = members.iter().filter(|n| !is_ready(n)).count();
        let partly =
            down >= UNHEALTHY_ZONE_NODES && down * 100 >= members.len() * UNHEALTHY_ZONE_PERCENT;
        let eviction = if partly && members.len() <= LARGE_ZONE_NODES {
            Self::Held
        } else {
            Self::Now
        };
        eviction.unless_all_are_down(nodes)
    }

    pub(super) fn unless_all_are_down(self, nodes: &[Arc<Node>]) -> Self {
        let any_up = nodes.iter().any(|n| !is_excluded(n) && is_ready(n));
        if any_up || nodes.is_empty() {
            self
        } else {
            Self::Stopped
        }
    }
}

fn is_excluded(node: &Node) -> bool {
    node.labels().contains_key(EXCLUDED)
}

fn is_ready(node: &Node) -> bool {
    ready_status(node) == Some("True")
}

/// Region and zone.
pub(super) fn zone(node: &Node) -> String {
    let label = |key: &str| {
        node.labels()
            .get(key)
            .map(String::as_str)
            .unwrap_or_default()
    };
    format!(
        "{}:{}",
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone")
    )
}

/// Whether the node already drives pods away because it is down.
pub(super) fn is_evicting(node: &Node) -> bool {
    taints(node)
        .iter()
        .any(|t| t.effect == "NoExecute" && (t.key == NOT_READY || t.key == UNREACHABLE))
}

fn down_key(node: &Node) -> Option<&'static str> {
    match ready_status(node) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    }
}

fn wanted_no_schedule(node: &Node) -> Vec<&'static str> {
    let holds = |kind: &str| condition(node, kind).is_some_and(|c| c.status == "True");
    let mut wanted: Vec<&'static str> = down_key(node).into_iter().collect();
    let pressures = [
        "MemoryPressure",
        "DiskPressure",
        "PIDPressure",
        "NetworkUnavailable",
    ];
    wanted.extend(
        pressures
            .iter()
            .zip(&NO_SCHEDULE[2..6])
            .filter(|(kind, _)| holds(kind))
            .map(|(_, key)| *key),
    );
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push("node.kubernetes.io/unschedulable");
    }
    wanted
}

/// The node with the taints that it should have; none if it has them.
pub(super) fn with_taints(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Node> {
    let no_schedule = wanted_no_schedule(node);
    let evicts = is_evicting(node);
    let no_execute = down_key(node).filter(|_| match eviction {
        Eviction::Now => true,
        Eviction::Later(_) | Eviction::Held => evicts,
        Eviction::Stopped => false,
    });
    // A node that has never reported keeps the taint that it was registered with.
    let reported = ready_status(node).is_some();
    let keep = |taint: &Taint| match taint.effect.as_str() {
        "NoSchedule" if taint.key == NOT_READY && !reported => true,
        "NoSchedule" => {
            !NO_SCHEDULE.contains(&taint.key.as_str()) || no_schedule.contains(&taint.key.as_str())
        }
        "NoExecute" if taint.key == NOT_READY || taint.key == UNREACHABLE => {
            no_execute == Some(taint.key.as_str())
        }
        _ => true,
    };
    let mut wanted: Vec<Taint> = taints(node).iter().filter(|t| keep(t)).cloned().collect();
    let additions = no_schedule
        .iter()
        .map(|key| (*key, "NoSchedule"))
        .chain(no_execute.map(|key| (key, "NoExecute")));
    for (key, effect) in additions {
        if !wanted.iter().any(|t| t.key == key && t.effect == effect) {
            wanted.push(Taint {
                key: key.into(),
                effect: effect.into(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    if wanted == taints(node) {
        return None;
    }
    let mut changed = node.clone();
    changed.spec.get_or_insert_default().taints = Some(wanted).filter(|all| !all.is_empty());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: &str, taints: &[(&str, &str)], more: serde_json::Value) -> Node {
        let taints: Vec<_> = taints
            .iter()
            .map(|(key, effect)| json!({"key": key, "effect": effect}))
            .collect();
        let mut conditions = vec![json!({"type": "Ready", "status": ready})];
        conditions.extend(more.as_array().into_iter().flatten().cloned());
        let value = json!({"metadata": {"name": "n"}, "spec": {"taints": taints}, "status": {"conditions": conditions}});
        serde_json::from_value(value).expect("a node")
    }

    fn check(node: &Node, eviction: Eviction, expect: &str) {
        let changed =
            with_taints(node, eviction, Timestamp::UNIX_EPOCH).unwrap_or_else(|| node.clone());
        let short = |t: &Taint| {
            format!(
                "{}:{}",
                t.key.rsplit('/').next().unwrap_or_default(),
                t.effect
            )
        };
        assert_eq!(
            taints(&changed)
                .iter()
                .map(short)
                .collect::<Vec<_>>()
                .join(" "),
            expect
        );
    }

    #[test]
    fn taints_follow_conditions() {
        check(&node("True", &[], json!([])), Eviction::Now, "");
        check(
            &node("False", &[], json!([])),
            Eviction::Now,
            "not-ready:NoSchedule not-ready:NoExecute",
        );
        check(
            &node("Unknown", &[], json!([])),
            Eviction::Held,
            "unreachable:NoSchedule",
        );
        let was_down = [
            (NOT_READY, "NoSchedule"),
            (NOT_READY, "NoExecute"),
            ("mine", "NoSchedule"),
        ];
        check(
            &node("True", &was_down, json!([])),
            Eviction::Now,
            "mine:NoSchedule",
        );
        check(
            &node("Unknown", &was_down, json!([])),
            Eviction::Now,
            "mine:NoSchedule unreachable:NoSchedule unreachable:NoExecute",
        );
        check(
            &node("False", &was_down, json!([])),
            Eviction::Stopped,
            "not-ready:NoSchedule mine:NoSchedule",
        );
        let pressure = json!([{"type": "DiskPressure", "status": "True"}]);
        check(
            &node("True", &[], pressure),
            Eviction::Now,
            "disk-pressure:NoSchedule",
        );
    }

    #[test]
    fn eviction_stops_when_most_are_down() {
        let zone = |up: usize, down: usize| -> Vec<Arc<Node>> {
            let all = (0..up).map(|_| "True").chain((0..down).map(|_| "Unknown"));
            all.map(|ready| Arc::new(node(ready, &[], json!([]))))
                .collect()
        };
        let check = |up, down, expect| {
            assert_eq!(
                Eviction::decide(&node("Unknown", &[], json!([])), &zone(up, down)),
                expect
            )
        };
        check(3, 1, Eviction::Now);
        check(1, 2, Eviction::Now);
        check(2, 3, Eviction::Held);
        check(0, 1, Eviction::Stopped);
    }
}
