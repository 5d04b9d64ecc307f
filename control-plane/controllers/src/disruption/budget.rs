//! The arithmetic of a disruption budget. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Outcome};
use crate::support::{Meta, count, is_ready, scaled_value};

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
/// A pod whose eviction was granted counts as gone for this long, even if it is still there.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// What a budget is measured against.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    pub(super) healthy: i32,
    /// Pods without a controller, which cannot be counted by scale.
    pub(super) unmanaged: Vec<String>,
}

/// Whether the budget is a share of what the pods' controllers ask for.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.clone().unwrap_or_default();
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// `total` is the sum of scales when they are needed, else the number of pods.
pub(super) fn expected(
    budget: &PodDisruptionBudget,
    total: i32,
    unmanaged: Vec<String>,
) -> Outcome<Expected> {
    let spec = budget.spec.clone().unwrap_or_default();
    let healthy = match (spec.max_unavailable, spec.min_available) {
        (Some(max), _) => (total - scaled_value(&max, total, true)?).max(0),
        (None, Some(min)) => scaled_value(&min, total, true)?,
        (None, None) => {
            return Err(Error::Invalid(
                "neither minAvailable nor maxUnavailable is set".into(),
            ));
        }
    };
    Ok(Expected {
        pods: total,
        healthy,
        unmanaged,
    })
}

/// Granted evictions that still count, and when the next one stops to.
pub(super) fn disrupted_pods(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Timestamp>) {
    let mut recheck: Option<Timestamp> = None;
    let granted = budget
        .status
        .as_ref()
        .and_then(|s| s.disrupted_pods.clone())
        .unwrap_or_default();
    let counting = granted.into_iter().filter(|(name, since)| {
        let there = pods
            .iter()
            .any(|pod| pod.name() == name && !pod.is_deleting());
        let ends = since.0 + DELETION_TIMEOUT;
        let counts = there && ends > now;
        if counts {
            recheck = Some(recheck.map_or(ends, |known| known.min(ends)));
        }
        counts
    });
    let counting = counting.collect();
    (counting, recheck)
}

pub(super) fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: &Expected,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let healthy = |pod: &&Arc<Pod>| {
        is_ready(pod) && !pod.is_deleting() && !disrupted.contains_key(pod.name())
    };
    let current = count(pods.iter().filter(healthy).count());
    let allowed = if expected.pods <= 0 {
        0
    } else {
        (current - expected.healthy).max(0)
    };
    let (value, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    PodDisruptionBudgetStatus {
        current_healthy: Some(current),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|all| !all.is_empty()),
        observed_generation: Some(budget.generation()),
        conditions: Some(conditions(budget, value, reason, "", now)),
    }
}

/// The status of a budget that could not be worked out: nothing is allowed.
pub(super) fn failed(
    budget: &PodDisruptionBudget,
    message: &str,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let current = budget.status.clone().unwrap_or_default();
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        observed_generation: Some(budget.generation()),
        current_healthy: Some(current.current_healthy.unwrap_or(0)),
        desired_healthy: Some(current.desired_healthy.unwrap_or(0)),
        expected_pods: Some(current.expected_pods.unwrap_or(0)),
        conditions: Some(conditions(budget, "False", "SyncFailed", message, now)),
        ..current
    }
}

fn conditions(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = budget
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    let mut condition = Condition {
        type_: DISRUPTION_ALLOWED.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: Some(budget.generation()),
        last_transition_time: Time(now),
    };
    match conditions
        .iter_mut()
        .find(|c| c.type_ == DISRUPTION_ALLOWED)
    {
        None => conditions.push(condition),
        Some(old) => {
            if old.status == condition.status {
                condition.last_transition_time = old.last_transition_time.clone();
            }
            *old = condition;
        }
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn budget(spec: serde_json::Value, granted: serde_json::Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"generation": 1}, "spec": spec, "status": {"disruptedPods": granted}}))
            .expect("a budget")
    }

    fn pods(ready: usize, unready: usize) -> Vec<Arc<Pod>> {
        let pod = |i: usize| {
            let status = if i < ready { "True" } else { "False" };
            let value = json!({"metadata": {"name": format!("p{i}")}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
            Arc::new(serde_json::from_value(value).expect("a pod"))
        };
        (0..ready + unready).map(pod).collect()
    }

    fn check(
        spec: serde_json::Value,
        scale: i32,
        ready: usize,
        unready: usize,
        expect: (i32, i32),
    ) {
        let budget = budget(spec, json!({}));
        let pods = pods(ready, unready);
        let total = if needs_scale(&budget) {
            scale
        } else {
            count(pods.len())
        };
        let expected = expected(&budget, total, Vec::new()).expect("valid");
        let status = status(
            &budget,
            &pods,
            &expected,
            BTreeMap::new(),
            Timestamp::UNIX_EPOCH,
        );
        let numbers = (
            status.desired_healthy.expect("set"),
            status.disruptions_allowed.expect("set"),
        );
        assert_eq!(numbers, expect, "{:?}", budget.spec);
    }

    #[test]
    fn budgets() {
        check(json!({"minAvailable": 2}), 0, 3, 0, (2, 1));
        check(json!({"minAvailable": 2}), 0, 1, 2, (2, 0));
        check(json!({"minAvailable": "50%"}), 5, 5, 0, (3, 2));
        check(json!({"maxUnavailable": 1}), 3, 3, 0, (2, 1));
        check(json!({"maxUnavailable": 1}), 3, 2, 1, (2, 0));
        check(json!({"maxUnavailable": "30%"}), 10, 10, 0, (7, 3));
        check(json!({"maxUnavailable": 5}), 3, 3, 0, (0, 3));
        check(json!({"minAvailable": 0}), 0, 0, 0, (0, 0));
    }

    #[test]
    fn a_granted_eviction_counts_until_the_pod_is_gone_or_time_has_passed() {
        let budget = budget(
            json!({"minAvailable": 1}),
            json!({"p0": "1970-01-01T00:00:00Z", "gone": "1970-01-01T00:00:00Z"}),
        );
        let pods = pods(2, 0);
        let (counting, recheck) = disrupted_pods(&budget, &pods, Timestamp::UNIX_EPOCH);
        assert_eq!(counting.keys().collect::<Vec<_>>(), ["p0"]);
        let ends = recheck.expect("a time");
        assert_eq!(ends.as_second(), 120);
        let expected = expected(&budget, 2, Vec::new()).expect("valid");
        assert_eq!(
            status(&budget, &pods, &expected, counting, ends).disruptions_allowed,
            Some(0)
        );
        assert!(disrupted_pods(&budget, &pods, ends).0.is_empty());
    }
}
