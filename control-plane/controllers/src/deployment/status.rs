//! What a deployment says about itself: counts, and the Available, Progressing and ReplicaFailure conditions. Pure.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::plan::{actual, available, is_paused, max_unavailable, size, wanted};
use crate::context::until;
use crate::support::{Meta, nonzero};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// Whether a report judges the rollout's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Estimate,
    Keep,
}

/// All updated, all available, nothing old left.
pub(super) fn is_complete(deployment: &Deployment) -> bool {
    deployment
        .status
        .as_ref()
        .is_some_and(|status| is_complete_as(deployment, status))
}

fn is_complete_as(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = wanted(deployment);
    let counts = [
        status.updated_replicas,
        status.replicas,
        status.available_replicas,
    ];
    counts.iter().all(|count| count.unwrap_or(0) == wanted)
        && status.observed_generation.unwrap_or(0) >= deployment.generation()
}

fn deadline_seconds(deployment: &Deployment) -> Option<i32> {
    deployment
        .spec
        .as_ref()?
        .progress_deadline_seconds
        .filter(|seconds| *seconds != i32::MAX)
}

fn find<'a>(status: Option<&'a DeploymentStatus>, kind: &str) -> Option<&'a DeploymentCondition> {
    status?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

fn has_reason(condition: Option<&DeploymentCondition>, reason: &str) -> bool {
    condition.is_some_and(|c| c.reason.as_deref() == Some(reason))
}

fn deadline(deployment: &Deployment, condition: &DeploymentCondition) -> Option<Timestamp> {
    let seconds = deadline_seconds(deployment)?;
    Some(condition.last_update_time.as_ref()?.0 + SignedDuration::from_secs(seconds.into()))
}

/// When a rollout that makes no progress has to be looked at again.
pub(super) fn until_deadline(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let condition = find(Some(status), PROGRESSING)?;
    if is_complete_as(deployment, status) || has_reason(Some(condition), TIMED_OUT) {
        return None;
    }
    // A second more, so that the deadline has surely passed then.
    Some(until(now, deadline(deployment, condition)?) + Duration::from_secs(1))
}

/// Writes statuses as of one moment.
pub(super) struct Reporter {
    now: Timestamp,
}

impl Reporter {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { now }
    }

    fn condition(
        &self,
        kind: &str,
        status: &str,
        reason: &str,
        message: String,
    ) -> DeploymentCondition {
        DeploymentCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_update_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        }
    }

    /// The new status when pausing or resuming has to be noted, so that paused time does not count against the deadline.
    pub(super) fn pause_or_resume(&self, deployment: &Deployment) -> Option<DeploymentStatus> {
        deadline_seconds(deployment)?;
        let current = find(deployment.status.as_ref(), PROGRESSING);
        if has_reason(current, TIMED_OUT) {
            return None;
        }
        match (is_paused(deployment), has_reason(current, PAUSED)) {
            (true, false) => {
                self.with_progress(deployment, "Unknown", PAUSED, "Deployment is paused".into())
            }
            (false, true) => self.with_progress(
                deployment,
                "Unknown",
                "DeploymentResumed",
                "Deployment is resumed".into(),
            ),
            _ => None,
        }
    }

    pub(super) fn found_new_set(
        &self,
        deployment: &Deployment,
        name: &str,
    ) -> Option<DeploymentStatus> {
        if find(deployment.status.as_ref(), PROGRESSING).is_some() {
            return None;
        }
        self.with_progress(
            deployment,
            "True",
            "FoundNewReplicaSet",
            format!("Found new replica set \"{name}\""),
        )
    }

    pub(super) fn created_new_set(
        &self,
        deployment: &Deployment,
        name: &str,
    ) -> Option<DeploymentStatus> {
        self.with_progress(
            deployment,
            "True",
            "NewReplicaSetCreated",
            format!("Created new replica set \"{name}\""),
        )
    }

    pub(super) fn failed_create(
        &self,
        deployment: &Deployment,
        message: &str,
    ) -> Option<DeploymentStatus> {
        self.with_progress(deployment, "False", "ReplicaSetCreateError", message.into())
    }

    fn with_progress(
        &self,
        deployment: &Deployment,
        value: &str,
        reason: &str,
        message: String,
    ) -> Option<DeploymentStatus> {
        deadline_seconds(deployment)?;
        let mut status = deployment.status.clone().unwrap_or_default();
        set_condition(
            &mut status,
            self.condition(PROGRESSING, value, reason, message),
        );
        (deployment.status.as_ref() != Some(&status)).then_some(status)
    }

    /// The whole status.
    pub(super) fn status(
        &self,
        deployment: &Deployment,
        new: Option<&ReplicaSet>,
        all: &[&ReplicaSet],
        progress: Progress,
    ) -> DeploymentStatus {
        let mut status = self.counts(deployment, new, all);
        let (value, reason, message) = if status.available_replicas.unwrap_or(0)
            >= wanted(deployment) - max_unavailable(deployment)
        {
            (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        set_condition(
            &mut status,
            self.condition(AVAILABLE, value, reason, message.into()),
        );
        if progress == Progress::Estimate {
            self.estimate_progress(deployment, new, &mut status);
            match replica_failure(new, all) {
                Some(failure) => set_condition(&mut status, failure),
                None => remove_condition(&mut status, REPLICA_FAILURE),
            }
        }
        status.conditions = status.conditions.filter(|all| !all.is_empty());
        status
    }

    fn counts(
        &self,
        deployment: &Deployment,
        new: Option<&ReplicaSet>,
        all: &[&ReplicaSet],
    ) -> DeploymentStatus {
        let sum =
            |count: &dyn Fn(&ReplicaSet) -> i32| all.iter().map(|set| count(set)).sum::<i32>();
        let ready = |set: &ReplicaSet| {
            set.status
                .as_ref()
                .and_then(|s| s.ready_replicas)
                .unwrap_or(0)
        };
        let terminating =
            |set: &ReplicaSet| set.status.as_ref().and_then(|s| s.terminating_replicas);
        let available = sum(&available);
        let current = deployment.status.as_ref();
        DeploymentStatus {
            observed_generation: Some(deployment.generation()),
            replicas: nonzero(sum(&actual)),
            updated_replicas: nonzero(new.map_or(0, actual)),
            ready_replicas: nonzero(sum(&ready)),
            available_replicas: nonzero(available),
            unavailable_replicas: nonzero((sum(&size) - available).max(0)),
            terminating_replicas: all.iter().map(|set| terminating(set)).sum(),
            collision_count: current.and_then(|s| s.collision_count),
            conditions: current.and_then(|s| s.conditions.clone()),
        }
    }

    fn estimate_progress(
        &self,
        deployment: &Deployment,
        new: Option<&ReplicaSet>,
        status: &mut DeploymentStatus,
    ) {
        if deadline_seconds(deployment).is_none() {
            return remove_condition(status, PROGRESSING);
        }
        let current = find(deployment.status.as_ref(), PROGRESSING);
        let settled = status.replicas == status.updated_replicas && has_reason(current, COMPLETE);
        if settled {
            return;
        }
        let subject = new.map_or_else(
            || format!("Deployment \"{}\"", deployment.name()),
            |set| format!("ReplicaSet \"{}\"", set.name()),
        );
        if is_complete_as(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(
                status,
                self.condition(PROGRESSING, "True", COMPLETE, message),
            );
        } else if has_progressed(deployment.status.as_ref(), status) {
            let message = format!("{subject} is progressing.");
            let mut condition = self.condition(PROGRESSING, "True", "ReplicaSetUpdated", message);
            if let Some(current) = current.filter(|c| c.status == "True") {
                condition.last_transition_time = current.last_transition_time.clone();
            }
            remove_condition(status, PROGRESSING);
            set_condition(status, condition);
        } else if self.has_timed_out(deployment, find(Some(status), PROGRESSING)) {
            let message = format!("{subject} has timed out progressing.");
            set_condition(
                status,
                self.condition(PROGRESSING, "False", TIMED_OUT, message),
            );
        }
    }

    fn has_timed_out(
        &self,
        deployment: &Deployment,
        condition: Option<&DeploymentCondition>,
    ) -> bool {
        if has_reason(condition, COMPLETE) {
            return false;
        }
        has_reason(condition, TIMED_OUT)
            || condition
                .and_then(|c| deadline(deployment, c))
                .is_some_and(|at| at < self.now)
    }
}

fn has_progressed(old: Option<&DeploymentStatus>, new: &DeploymentStatus) -> bool {
    let default = DeploymentStatus::default();
    let old = old.unwrap_or(&default);
    let count = |count: Option<i32>| count.unwrap_or(0);
    let outdated =
        |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

/// A replica set's failure, the new set's before any other's.
fn replica_failure(new: Option<&ReplicaSet>, all: &[&ReplicaSet]) -> Option<DeploymentCondition> {
    let failure = |set: &ReplicaSet| {
        let condition = set
            .status
            .as_ref()?
            .conditions
            .as_ref()?
            .iter()
            .find(|c| c.type_ == REPLICA_FAILURE)?
            .clone();
        Some(DeploymentCondition {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            last_update_time: condition.last_transition_time.clone(),
            last_transition_time: condition.last_transition_time,
        })
    };
    new.and_then(failure)
        .or_else(|| all.iter().find_map(|set| failure(set)))
}

/// Sets a condition; one with the same status and reason stays as it is.
fn set_condition(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let conditions = status.conditions.get_or_insert_default();
    if let Some(current) = conditions.iter().find(|c| c.type_ == condition.type_) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time = current.last_transition_time.clone();
        }
    }
    conditions.retain(|c| c.type_ != condition.type_);
    conditions.push(condition);
}

fn remove_condition(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    fn deployment(paused: bool) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 1},
            "spec": {"replicas": 2, "paused": paused, "selector": {}, "template": {}, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
        }))
        .expect("a deployment")
    }

    fn set(size: i32, available: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1"}, "spec": {"replicas": size, "selector": {}},
            "status": {"replicas": size, "readyReplicas": available, "availableReplicas": available},
        }))
        .expect("a replica set")
    }

    fn text(status: &DeploymentStatus) -> String {
        let conditions = status.conditions.iter().flatten();
        conditions
            .map(|c| {
                format!(
                    "{}={} {}",
                    c.type_,
                    c.status,
                    c.reason.as_deref().unwrap_or("")
                )
            })
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn a_rollout_progresses_completes_or_times_out() {
        let mut deployment = deployment(false);
        let report = |deployment: &Deployment, set: &ReplicaSet, seconds| {
            Reporter::new(at(seconds)).status(deployment, Some(set), &[set], Progress::Estimate)
        };
        let begun = report(&deployment, &set(2, 0), 10);
        assert_eq!(
            text(&begun),
            "Available=False MinimumReplicasUnavailable; Progressing=True ReplicaSetUpdated"
        );
        deployment.status = Some(begun.clone());
        assert_eq!(
            report(&deployment, &set(2, 0), 500),
            begun,
            "nothing new to say before the deadline"
        );
        assert_eq!(
            until_deadline(&deployment, &begun, at(500)),
            Some(Duration::from_secs(111))
        );
        let late = report(&deployment, &set(2, 0), 611);
        assert_eq!(
            text(&late),
            "Available=False MinimumReplicasUnavailable; Progressing=False ProgressDeadlineExceeded"
        );
        let done = report(&deployment, &set(2, 2), 20);
        assert_eq!(
            text(&done),
            "Available=True MinimumReplicasAvailable; Progressing=True NewReplicaSetAvailable"
        );
        let progressing = find(Some(&done), PROGRESSING).expect("a condition");
        assert_eq!(
            progressing.message.as_deref(),
            Some("ReplicaSet \"web-1\" has successfully progressed.")
        );
        assert_eq!(progressing.last_transition_time, Some(Time(at(10))));
    }

    #[test]
    fn pausing_and_resuming_are_noted_once() {
        let mut paused = deployment(true);
        let status = Reporter::new(at(1))
            .pause_or_resume(&paused)
            .expect("a change");
        assert_eq!(text(&status), "Progressing=Unknown DeploymentPaused");
        paused.status = Some(status);
        assert_eq!(Reporter::new(at(2)).pause_or_resume(&paused), None);
        let resumed = Deployment {
            status: paused.status,
            ..deployment(false)
        };
        let status = Reporter::new(at(3))
            .pause_or_resume(&resumed)
            .expect("a change");
        assert_eq!(text(&status), "Progressing=Unknown DeploymentResumed");
    }
}
