//! The rolling update of a daemon set: which old pods go next, or which nodes get a second pod first. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::placement::Placement;
use super::plan::{NodePods, Plan, is_updated, min_ready_seconds};
use crate::error::Outcome;
use crate::support::{Meta, count, is_available, scaled_value};

pub(super) fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    strategy
        .and_then(|s| s.type_.as_deref())
        .unwrap_or("RollingUpdate")
        == "RollingUpdate"
}

fn rolling(set: &DaemonSet) -> RollingUpdateDaemonSet {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    strategy
        .and_then(|s| s.rolling_update.clone())
        .unwrap_or_default()
}

/// maxSurge and maxUnavailable as numbers of the nodes that take part.
fn limits(set: &DaemonSet, nodes: i32) -> Outcome<(i32, i32)> {
    let RollingUpdateDaemonSet {
        max_surge,
        max_unavailable,
    } = rolling(set);
    let surge = max_surge.map_or(Ok(0), |value| scaled_value(&value, nodes, true))?;
    let unavailable = max_unavailable.map_or(Ok(1), |value| scaled_value(&value, nodes, true))?;
    if surge == 0 && unavailable == 0 {
        Ok((0, 1))
    } else {
        Ok((surge, unavailable))
    }
}

pub(super) fn allows_surge(set: &DaemonSet) -> bool {
    is_rolling(set) && limits(set, 100).is_ok_and(|(surge, _)| surge > 0)
}

/// The pods of one node that are not going already: new and old, if there is at most one of each.
struct Pair<'a> {
    new: Option<&'a Arc<Pod>>,
    old: Option<&'a Arc<Pod>>,
}

fn pair<'a>(node: &'a NodePods, hash: &str) -> Option<Pair<'a>> {
    let (new, old): (Vec<_>, Vec<_>) = node
        .pods
        .iter()
        .filter(|p| !p.is_deleting())
        .partition(|pod| is_updated(pod, hash));
    (new.len() <= 1 && old.len() <= 1).then(|| Pair {
        new: new.first().copied(),
        old: old.first().copied(),
    })
}

/// The next step of the rollout.
pub(super) fn plan(
    set: &DaemonSet,
    by_node: &BTreeMap<String, NodePods>,
    hash: &str,
    now: Timestamp,
) -> Outcome<Plan> {
    let wanted = by_node
        .values()
        .filter(|node| node.placement == Some(Placement::Run))
        .count();
    let (surge, unavailable) = limits(set, count(wanted))?;
    let available = |pod: &Pod| is_available(pod, min_ready_seconds(set), now);
    // Nodes without any pod of the set matter only if they should have one.
    let nodes: Vec<(&String, &NodePods)> = by_node
        .iter()
        .filter(|(_, n)| n.placement == Some(Placement::Run) || !n.pods.is_empty())
        .collect();
    Ok(if surge == 0 {
        replace(&nodes, hash, unavailable, available)
    } else {
        surge_over(&nodes, hash, surge, count(wanted), available)
    })
}

/// Deletes old pods as far as the number of unavailable ones stays within the limit; the core loop makes the new ones.
fn replace(
    nodes: &[(&String, &NodePods)],
    hash: &str,
    max_unavailable: i32,
    available: impl Fn(&Pod) -> bool,
) -> Plan {
    let (mut unavailable, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
    for (_, node) in nodes {
        match pair(node, hash) {
            Some(Pair {
                new: Some(new),
                old: None,
            }) => unavailable += i32::from(!available(new)),
            Some(Pair {
                new: None,
                old: Some(old),
            }) if available(old) => candidates.push(old.clone()),
            Some(Pair {
                new: None,
                old: Some(old),
            }) => {
                // It serves nobody: replacing it costs nothing.
                broken.push(old.clone());
                unavailable += 1;
            }
            _ => unavailable += 1,
        }
    }
    candidates.truncate(usize::try_from(max_unavailable - unavailable).unwrap_or(0));
    broken.extend(candidates);
    Plan {
        delete: broken,
        ..Plan::default()
    }
}

/// Makes new pods beside old ones and deletes an old one when its successor is available.
fn surge_over(
    nodes: &[(&String, &NodePods)],
    hash: &str,
    max_surge: i32,
    wanted: i32,
    available: impl Fn(&Pod) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let (mut surging, mut available_count) = (0, 0);
    let (mut candidates, mut sunset) = (Vec::new(), Vec::new());
    for (name, node) in nodes {
        let Some(Pair { new, old }) = pair(node, hash) else {
            surging += 1;
            continue;
        };
        available_count += i32::from(old.or(new).is_some_and(|pod| available(pod)));
        let Some(old) = old else { continue };
        let stays = node.placement == Some(Placement::Run);
        match new {
            Some(new) if available(new) => plan.delete.push(old.clone()),
            Some(_) => surging += 1,
            None if !available(old) && !stays => plan.delete.push(old.clone()),
            None if !available(old) => plan.create.push((*name).clone()),
            None if !stays => sunset.push(old.clone()),
            None => candidates.push((*name).clone()),
        }
    }
    sunset.truncate(usize::try_from(available_count - wanted).unwrap_or(0));
    plan.delete.extend(sunset);
    candidates.truncate(usize::try_from(max_surge - surging).unwrap_or(0));
    plan.create.extend(candidates);
    plan
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{nodes, text};
    use super::*;
    use serde_json::json;

    fn set(surge: serde_json::Value, unavailable: serde_json::Value) -> DaemonSet {
        serde_json::from_value(json!({"spec": {"selector": {}, "template": {}, "updateStrategy": {
            "type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}))
        .expect("a daemon set")
    }

    fn check(set: &DaemonSet, all: &[(&str, Placement, &[&str])], expect: &str) {
        let plan = plan(set, &nodes(all), "2", Timestamp::UNIX_EPOCH).expect("valid");
        assert_eq!(text(&plan), expect);
    }

    #[test]
    fn replacement_stays_within_max_unavailable() {
        let one = set(json!(0), json!(1));
        let run = Placement::Run;
        check(
            &one,
            &[("a", run, &["a:1:ready"]), ("b", run, &["b:1:ready"])],
            "create  delete a failed ",
        );
        check(
            &one,
            &[("a", run, &["a:2:unready"]), ("b", run, &["b:1:ready"])],
            "create  delete  failed ",
        );
        check(
            &one,
            &[("a", run, &["a:2:ready"]), ("b", run, &["b:1:ready"])],
            "create  delete b failed ",
        );
        check(
            &one,
            &[("a", run, &["a:1:unready"]), ("b", run, &["b:1:ready"])],
            "create  delete a failed ",
        );
        check(
            &one,
            &[("a", run, &[]), ("b", run, &["b:1:ready"])],
            "create  delete  failed ",
        );
        let half = set(json!(0), json!("50%"));
        let all: &[(&str, Placement, &[&str])] = &[
            ("a", run, &["a:1:ready"]),
            ("b", run, &["b:1:ready"]),
            ("c", run, &["c:1:ready"]),
        ];
        check(&half, all, "create  delete a,b failed ");
    }

    #[test]
    fn a_surge_makes_the_new_pod_first() {
        let one = set(json!(1), json!(0));
        let run = Placement::Run;
        check(
            &one,
            &[("a", run, &["a:1:ready"]), ("b", run, &["b:1:ready"])],
            "create a delete  failed ",
        );
        check(
            &one,
            &[
                ("a", run, &["a:1:ready", "n:2:unready"]),
                ("b", run, &["b:1:ready"]),
            ],
            "create  delete  failed ",
        );
        check(
            &one,
            &[
                ("a", run, &["a:1:ready", "n:2:ready"]),
                ("b", run, &["b:1:ready"]),
            ],
            "create b delete a failed ",
        );
    }
}
