//! PodTopologySpread: the pod's own constraints, and by default pods of one controller apart from each other.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use crate::cache::Cluster;
use crate::framework::{NodeFilter, NodeScore, Reason};
use crate::node_info::NodeInfo;
use crate::plugins::{node_affinity, taint_toleration};
use crate::pod_info::PodInfo;
use crate::terms::selector_matches;

const NOT_MATCHED: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";
const ZONE: &str = "topology.kubernetes.io/zone";

/// How many selected pods each domain of a constraint holds; domains without any are there with 0.
fn count<'a>(
    constraint: &'a TopologySpreadConstraint,
    pod: &'a PodInfo,
    cluster: &'a Cluster,
) -> HashMap<&'a str, i64> {
    let mut selector = constraint.label_selector.clone().unwrap_or_default();
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = pod.labels().get(key) {
            selector
                .match_labels
                .get_or_insert_default()
                .insert(key.clone(), value.clone());
        }
    }
    let affinity = (constraint.node_affinity_policy.as_deref() != Some("Ignore"))
        .then(|| node_affinity::filter(pod, cluster))
        .flatten();
    let taints = (constraint.node_taints_policy.as_deref() == Some("Honor"))
        .then(|| taint_toleration::filter(pod, cluster))
        .flatten();
    let counted = |node: &NodeInfo| {
        node.node.is_some()
            && affinity.as_ref().is_none_or(|f| f(node).is_ok())
            && taints.as_ref().is_none_or(|f| f(node).is_ok())
    };
    let mut counts = HashMap::new();
    for node in cluster.nodes().filter(|n| counted(n)) {
        let Some(domain) = node.labels().get(&constraint.topology_key) else {
            continue;
        };
        let selected = node.pods.values().filter(|p| {
            p.key.namespace == pod.key.namespace
                && p.pod.metadata.deletion_timestamp.is_none()
                && selector_matches(Some(&selector), p.labels())
        });
        *counts.entry(domain.as_str()).or_default() += selected.count() as i64;
    }
    counts
}

fn constraints<'a>(pod: &'a PodInfo, action: &str) -> Vec<&'a TopologySpreadConstraint> {
    let all = pod
        .spec()
        .and_then(|s| s.topology_spread_constraints.as_deref())
        .unwrap_or_default();
    all.iter()
        .filter(|c| c.when_unsatisfiable == action)
        .collect()
}

pub fn filter<'a>(pod: &'a PodInfo, cluster: &'a Cluster) -> Option<NodeFilter<'a>> {
    let hard = constraints(pod, "DoNotSchedule");
    if hard.is_empty() {
        return None;
    }
    let counted: Vec<_> = hard
        .into_iter()
        .map(|c| (c, count(c, pod, cluster)))
        .collect();
    Some(Box::new(move |node| {
        for (constraint, counts) in &counted {
            let Some(domain) = node.labels().get(&constraint.topology_key) else {
                return Err(Reason::from(NO_LABEL));
            };
            let few_domains =
                (counts.len() as i64) < i64::from(constraint.min_domains.unwrap_or(1));
            let fewest = if few_domains {
                0
            } else {
                counts.values().copied().min().unwrap_or(0)
            };
            let itself = i64::from(selector_matches(
                constraint.label_selector.as_ref(),
                pod.labels(),
            ));
            let here = counts.get(domain.as_str()).copied().unwrap_or(0);
            if here + itself - fewest > i64::from(constraint.max_skew) {
                return Err(Reason::from(NOT_MATCHED));
            }
        }
        Ok(())
    }))
}

/// Fewer pods of the same kind in the node's domains is better. Without constraints of its own, a pod keeps away from
/// pods of its controller, by node and by zone.
pub fn score<'a>(pod: &'a PodInfo, cluster: &'a Cluster) -> Option<NodeScore<'a>> {
    let soft = constraints(pod, "ScheduleAnyway");
    if !soft.is_empty() {
        let counted: Vec<_> = soft
            .into_iter()
            .map(|c| (c, count(c, pod, cluster)))
            .collect();
        return Some(Box::new(move |node| {
            let here = counted.iter().filter_map(|(constraint, counts)| {
                let domain = node.labels().get(&constraint.topology_key)?;
                counts.get(domain.as_str())
            });
            here.sum()
        }));
    }
    let controller = pod.controller.as_deref()?;
    let mut zones: HashMap<&str, i64> = HashMap::new();
    for node in cluster.nodes() {
        if let (Some(zone), Some(pods)) =
            (node.labels().get(ZONE), node.of_controller.get(controller))
        {
            *zones.entry(zone).or_default() += *pods as i64;
        }
    }
    Some(Box::new(move |node| {
        let on_node = node
            .of_controller
            .get(controller)
            .map_or(0, |pods| *pods as i64);
        let in_zone = node
            .labels()
            .get(ZONE)
            .and_then(|zone| zones.get(zone.as_str()))
            .copied()
            .unwrap_or(0);
        // A zone holds many nodes: there a pod weighs less than on the node itself.
        on_node * 4 + in_zone
    }))
}
