//! Which pods of a job have ended, how long to wait after failures, and which to remove first. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::Sync;
use super::decision::{completions, is_indexed};
use super::indexes::completion_index;
use super::policy::only_replace_failed;
use crate::context::until;
use crate::support::{Meta, phase, pods_to_delete};

/// Pause after the first failure; it doubles with each further one.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_FAILURE_PAUSE: Duration = Duration::from_secs(600);

/// A pod that is being deleted counts as failed, unless it is to be replaced only once it has really failed.
pub(super) fn is_failed(pod: &Pod, job: &Job) -> bool {
    phase(pod) == "Failed"
        || (!only_replace_failed(job) && pod.is_deleting() && phase(pod) != "Succeeded")
}

/// Pods that have ended and that neither the counters nor the uncounted lists know.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) succeeded: Vec<Arc<Pod>>,
    pub(super) failed: Vec<Arc<Pod>>,
}

pub(super) fn newly_finished(sync: &Sync) -> Finished {
    let uncounted = sync
        .job
        .status
        .as_ref()
        .and_then(|s| s.uncounted_terminated_pods.clone())
        .unwrap_or_default();
    let known =
        |list: &Option<Vec<String>>, pod: &Pod| list.iter().flatten().any(|uid| uid == pod.uid());
    let in_range = |pod: &Pod| {
        !is_indexed(&sync.job)
            || completion_index(pod)
                .is_some_and(|index| index < completions(&sync.job).unwrap_or(0))
    };
    let mut finished = Finished::default();
    for pod in sync
        .pods
        .iter()
        .filter(|p| sync.is_tracked(p) && in_range(p))
    {
        if phase(pod) == "Succeeded" && !known(&uncounted.succeeded, pod) {
            finished.succeeded.push(pod.clone());
        } else if is_failed(pod, &sync.job) && !known(&uncounted.failed, pod) {
            finished.failed.push(pod.clone());
        }
    }
    finished
}

/// Failures since the last success, to wait ever longer before the next pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FailureRecord {
    failures: u32,
    last: Option<Timestamp>,
}

impl FailureRecord {
    /// The record with these pods taken into account.
    pub(super) fn with(mut self, finished: &Finished, now: Timestamp) -> Self {
        let last_success = finished
            .succeeded
            .iter()
            .map(|p| finished_at(p).unwrap_or(now))
            .max();
        if last_success.is_some() {
            self = Self::default();
        }
        for pod in &finished.failed {
            let at = finished_at(pod).unwrap_or(now);
            if last_success.is_none_or(|success| at > success) {
                self.failures += 1;
                self.last = self.last.max(Some(at));
            }
        }
        self
    }

    /// How long to wait until the next pod may start.
    pub(super) fn remaining(&self, now: Timestamp) -> Duration {
        let Some(last) = self.last.filter(|_| self.failures > 0) else {
            return Duration::ZERO;
        };
        pause_left(self.failures, last, now)
    }
}

/// What is left of the pause after the n-th failure.
pub(super) fn pause_left(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    let factor = 1u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let pause = FAILURE_PAUSE
        .saturating_mul(factor)
        .min(LONGEST_FAILURE_PAUSE);
    // The pause is at most ten minutes.
    until(
        now,
        last + k8s_openapi::jiff::SignedDuration::from_secs(
            i64::try_from(pause.as_secs()).unwrap_or(0),
        ),
    )
}

/// When the last container ended, or else what is known of the pod's end.
pub(super) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod
        .status
        .iter()
        .filter_map(|s| s.container_statuses.as_ref())
        .flatten();
    let ended =
        statuses.filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let ready = crate::support::condition(pod, "Ready").filter(|c| c.status == "False");
    ended
        .map(|t| t.0)
        .max()
        .or_else(|| {
            ready
                .and_then(|c| c.last_transition_time.as_ref())
                .map(|t| t.0)
        })
        .or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|t| t.0))
}

/// Active pods to remove: those beyond the indexes, all but one of each index, then others until `at_least` are chosen.
pub(super) fn to_remove(sync: &Sync, at_least: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    let (mut chosen, mut left) = (Vec::new(), Vec::new());
    if is_indexed(&sync.job) {
        let completions = completions(&sync.job).unwrap_or(0);
        let mut by_index: BTreeMap<i32, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in &sync.active {
            match completion_index(pod).filter(|index| *index < completions) {
                Some(index) => by_index.entry(index).or_default().push(pod.clone()),
                None => chosen.push(pod.clone()),
            }
        }
        for pods in by_index.into_values() {
            let surplus = pods_to_delete(&pods, &[], pods.len() - 1, now);
            left.extend(
                pods.into_iter()
                    .filter(|p| surplus.iter().all(|s| s.uid() != p.uid())),
            );
            chosen.extend(surplus);
        }
    } else {
        left.clone_from(&sync.active);
    }
    if let Some(missing) = at_least.checked_sub(chosen.len()) {
        chosen.extend(pods_to_delete(&left, &[], missing.min(left.len()), now));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(phase: &str, second: i64) -> Arc<Pod> {
        let at = Timestamp::from_second(second)
            .expect("in range")
            .to_string();
        let value = json!({"status": {"phase": phase, "containerStatuses": [{"name": "c", "ready": false,
            "restartCount": 0, "image": "", "imageID": "", "state": {"terminated": {"exitCode": 1, "finishedAt": at}}}]}});
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    #[test]
    fn pauses_double_until_a_success() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let failed = |all: &[i64]| Finished {
            failed: all.iter().map(|second| pod("Failed", *second)).collect(),
            succeeded: vec![],
        };
        let record = FailureRecord::default().with(&failed(&[100]), at(100));
        assert_eq!(record.remaining(at(104)), Duration::from_secs(6));
        let record = record.with(&failed(&[110, 120]), at(120));
        assert_eq!(record.remaining(at(120)), Duration::from_secs(40));
        let success = Finished {
            succeeded: vec![pod("Succeeded", 130)],
            failed: vec![pod("Failed", 125)],
        };
        assert_eq!(
            record.with(&success, at(130)).remaining(at(130)),
            Duration::ZERO
        );
    }
}
