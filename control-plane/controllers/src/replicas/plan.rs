//! The decisions about replicas: how many pods to create, which to delete, what the status says. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::kinds::Replicated;
use crate::error::Error;
use crate::support::{
    BURST_REPLICAS, Meta, count, is_available, is_ready, matches_all, nonzero, pods_to_delete,
};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What brings the number of pods closer to what is asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

pub(super) fn plan(
    replicas: i32,
    active: &[Arc<Pod>],
    related: impl FnOnce() -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> Plan {
    let wanted = usize::try_from(replicas).unwrap_or(0);
    match active.len() {
        running if running < wanted => Plan::Create((wanted - running).min(BURST_REPLICAS)),
        running if running > wanted => Plan::Delete(pods_to_delete(
            active,
            &related(),
            (running - wanted).min(BURST_REPLICAS),
            now,
        )),
        _ => Plan::Nothing,
    }
}

pub(super) fn calculate_status<K: Replicated>(
    owner: &K,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<&Error>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let template_labels = owner
        .template()
        .and_then(|t| t.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    let number =
        |holds: &dyn Fn(&Pod) -> bool| count(active.iter().filter(|pod| holds(pod)).count());
    let min_ready_seconds = owner.min_ready_seconds();
    let current = owner.status();
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: nonzero(number(&|pod| matches_all(&template_labels, pod.labels()))),
        ready_replicas: nonzero(number(&is_ready)),
        available_replicas: nonzero(number(&|pod| is_available(pod, min_ready_seconds, now))),
        terminating_replicas: K::COUNTS_TERMINATING.then(|| count(terminating)),
        observed_generation: Some(Meta::generation(owner)),
        conditions: conditions(
            current.conditions,
            count(active.len()) - owner.replicas(),
            failure,
            now,
        ),
    }
}

/// A failure stays as it was first reported until it is over.
fn conditions(
    current: Option<Vec<ReplicaSetCondition>>,
    surplus: i32,
    failure: Option<&Error>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = current.unwrap_or_default();
    let reported = conditions.iter().any(|c| c.type_ == REPLICA_FAILURE);
    match failure {
        None => conditions.retain(|c| c.type_ != REPLICA_FAILURE),
        Some(failure) if !reported => conditions.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.into(),
            status: "True".into(),
            reason: Some(
                if surplus < 0 {
                    "FailedCreate"
                } else {
                    "FailedDelete"
                }
                .into(),
            ),
            message: Some(failure.to_string()),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
    }
    Some(conditions).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use serde_json::json;

    fn pods(number: usize, ready: usize) -> Vec<Arc<Pod>> {
        let pod = |i: usize| {
            json!({
                "metadata": {"name": format!("p{i}"), "uid": format!("p{i}"), "labels": {"app": "a"}},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if i < ready { "True" } else { "False" }}]},
            })
        };
        (0..number)
            .map(|i| Arc::new(serde_json::from_value(pod(i)).expect("a pod")))
            .collect()
    }

    #[test]
    fn plans() {
        let check = |replicas, running, expect: &str| {
            let pods = pods(running, running);
            let plan = plan(replicas, &pods, Vec::new, Timestamp::UNIX_EPOCH);
            let text = match plan {
                Plan::Nothing => "nothing".to_owned(),
                Plan::Create(n) => format!("create {n}"),
                Plan::Delete(pods) => format!("delete {}", pods.len()),
            };
            assert_eq!(text, expect, "{replicas} wanted, {running} running");
        };
        check(3, 3, "nothing");
        check(3, 1, "create 2");
        check(900, 0, "create 500");
        check(0, 2, "delete 2");
        check(1, 3, "delete 2");
    }

    #[test]
    fn status_counts_and_reports_failures_until_they_are_over() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"generation": 4},
            "spec": {"replicas": 3, "selector": {}, "template": {"metadata": {"labels": {"app": "a"}}}},
        }))
        .expect("a replica set");
        let failure = Error::Invalid("quota".into());
        let status = calculate_status(&set, &pods(2, 1), 1, Some(&failure), Timestamp::UNIX_EPOCH);
        assert_eq!(
            (
                status.replicas,
                status.ready_replicas,
                status.fully_labeled_replicas
            ),
            (2, Some(1), Some(2))
        );
        assert_eq!(
            (status.terminating_replicas, status.observed_generation),
            (Some(1), Some(4))
        );
        let condition = &status.conditions.as_ref().expect("a condition")[0];
        assert_eq!(
            (condition.reason.as_deref(), condition.message.as_deref()),
            (Some("FailedCreate"), Some("quota"))
        );
        let healed = calculate_status(
            &set.with_status(status),
            &pods(3, 3),
            0,
            None,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(healed.conditions, None);
    }
}
