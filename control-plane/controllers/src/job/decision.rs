//! Whether a job has ended, and how. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Sync;
use super::indexes::{self, completion_index};
use super::pods::{is_failed, newly_finished};
use super::policy;
use crate::support::{count, phase};

pub(super) const COMPLETE: &str = "Complete";
pub(super) const FAILED: &str = "Failed";
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const SUSPENDED: &str = "Suspended";

/// How many pods have ended, counted in the status or not yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Numbers {
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    /// Indexes that the status names as done, and with those not accounted for yet.
    pub(super) former_indexes: BTreeSet<i32>,
    pub(super) succeeded_indexes: BTreeSet<i32>,
    /// Only with a backoff limit per index.
    pub(super) failed_indexes: Option<BTreeSet<i32>>,
}

/// Whether something changed, and what to tell about it.
pub(super) enum Verdict {
    Same,
    Changed(&'static str),
}

pub(super) fn spec(job: &Job) -> JobSpec {
    job.spec.clone().unwrap_or_default()
}

pub(super) fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.completion_mode.as_deref()) == Some("Indexed")
}

pub(super) fn completions(job: &Job) -> Option<i32> {
    job.spec.as_ref().and_then(|s| s.completions)
}

pub(super) fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.suspend).unwrap_or(false)
}

/// The job as it is in the cluster, with what this reconciliation has already put into its status.
pub(super) fn status(job: &Job) -> JobStatus {
    job.status.clone().unwrap_or_default()
}

pub(super) fn find<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == kind && c.status == "True")
}

pub(crate) fn is_finished(job: &Job) -> bool {
    find(job, COMPLETE).is_some() || find(job, FAILED).is_some()
}

pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()).filter(|r: &String| !r.is_empty()),
        message: Some(message.into()).filter(|m: &String| !m.is_empty()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub(super) fn success(now: Timestamp) -> JobCondition {
    condition(
        SUCCESS_CRITERIA_MET,
        "True",
        "CompletionsReached",
        "Reached expected number of succeeded pods",
        now,
    )
}

/// When the job has been active for as long as it may.
pub(super) fn deadline(job: &Job) -> Option<Timestamp> {
    let seconds = job
        .spec
        .as_ref()?
        .active_deadline_seconds
        .filter(|_| !is_suspended(job))?;
    Some(job.status.as_ref()?.start_time.as_ref()?.0 + SignedDuration::from_secs(seconds))
}

pub(super) fn count_pods(sync: &Sync) -> Numbers {
    let status = status(&sync.job);
    let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
    let finished = newly_finished(sync);
    let policy = sync
        .job
        .spec
        .as_ref()
        .and_then(|s| s.pod_failure_policy.as_ref());
    let counted = finished
        .failed
        .iter()
        .filter(|pod| policy::judge(policy, pod).counts)
        .count();
    let mut numbers = Numbers {
        succeeded: status.succeeded.unwrap_or(0)
            + count(finished.succeeded.len())
            + count(uncounted.succeeded.map_or(0, |all| all.len())),
        failed: status.failed.unwrap_or(0)
            + count(counted)
            + count(uncounted.failed.map_or(0, |all| all.len())),
        ..Numbers::default()
    };
    if is_indexed(&sync.job) {
        let completions = completions(&sync.job).unwrap_or(0);
        numbers.former_indexes = indexes::parse(
            status.completed_indexes.as_deref().unwrap_or_default(),
            completions,
        );
        let done = sync
            .pods
            .iter()
            .filter(|p| phase(p) == "Succeeded" && sync.is_tracked(p));
        let done = done
            .filter_map(|p| completion_index(p))
            .filter(|index| *index < completions);
        numbers.succeeded_indexes = numbers.former_indexes.iter().copied().chain(done).collect();
        numbers.succeeded = count(numbers.succeeded_indexes.len());
        numbers.failed_indexes =
            indexes::failed(sync, status.failed_indexes.as_deref().unwrap_or_default());
    }
    numbers
}

/// Whether the job ends now, and how; the interim conditions come first, in upstream's order of precedence.
pub(super) fn verdict(sync: &Sync, now: Timestamp) -> Option<JobCondition> {
    let job = &sync.job;
    if let Some(met) = find(job, SUCCESS_CRITERIA_MET) {
        return Some(met.clone());
    }
    if let Some(target) = find(job, FAILURE_TARGET) {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        return Some(condition(
            FAILED,
            "True",
            &text(&target.reason),
            &text(&target.message),
            now,
        ));
    }
    failure(sync, now)
        .map(|(reason, message)| condition(FAILURE_TARGET, "True", reason, &message, now))
        .or_else(|| {
            let rules = job.spec.as_ref()?.success_policy.as_ref()?;
            let message =
                policy::succeeds(rules, completions(job)?, &sync.numbers.succeeded_indexes)?;
            Some(condition(
                SUCCESS_CRITERIA_MET,
                "True",
                "SuccessPolicy",
                &message,
                now,
            ))
        })
}

fn failure(sync: &Sync, now: Timestamp) -> Option<(&'static str, String)> {
    let spec = spec(&sync.job);
    let failed = sync.pods.iter().filter(|p| is_failed(p, &sync.job));
    let policy = spec.pod_failure_policy.as_ref();
    if let Some(message) = policy.and_then(|_| {
        failed
            .into_iter()
            .find_map(|pod| policy::judge(policy, pod).fails_job)
    }) {
        return Some(("PodFailurePolicy", message));
    }
    // With a limit per index the total is unlimited unless it is given.
    let limit = spec
        .backoff_limit
        .unwrap_or(if spec.backoff_limit_per_index.is_some() {
            i32::MAX
        } else {
            6
        });
    if sync.numbers.failed > limit || restarts_exceed(sync, &spec, limit) {
        return Some((
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit".into(),
        ));
    }
    if deadline(&sync.job).is_some_and(|at| at <= now) {
        return Some((
            "DeadlineExceeded",
            "Job was active longer than specified deadline".into(),
        ));
    }
    let failed = count(sync.numbers.failed_indexes.as_ref()?.len());
    if spec.max_failed_indexes.is_some_and(|max| failed > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(("MaxFailedIndexesExceeded", message.into()));
    }
    let ended = failed + count(sync.numbers.succeeded_indexes.len());
    (failed > 0 && ended >= spec.completions.unwrap_or(0))
        .then(|| ("FailedIndexes", "Job has failed indexes".into()))
}

/// Containers that restart in place count too.
fn restarts_exceed(sync: &Sync, spec: &JobSpec, limit: i32) -> bool {
    let policy = spec
        .template
        .spec
        .as_ref()
        .and_then(|s| s.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let running = sync
        .pods
        .iter()
        .filter(|p| matches!(phase(p), "Running" | "Pending"));
    let statuses = running
        .filter_map(|p| p.status.as_ref())
        .flat_map(|status| {
            status
                .init_container_statuses
                .iter()
                .flatten()
                .chain(status.container_statuses.iter().flatten())
        });
    let restarts: i32 = statuses.map(|status| status.restart_count).sum();
    if limit == 0 {
        restarts > 0
    } else {
        restarts >= limit
    }
}

/// Whether all that was asked for has been done.
pub(super) fn is_complete(sync: &Sync) -> bool {
    let done = match completions(&sync.job) {
        None => sync.numbers.succeeded > 0,
        Some(completions) => sync.numbers.succeeded >= completions,
    };
    done && sync.active_count == 0
}

/// Notes that the job is suspended, or no longer. A resumed job's time starts anew.
pub(super) fn note_suspension(job: &mut Job, now: Timestamp) -> Verdict {
    let suspended = is_suspended(job);
    let status = job.status.get_or_insert_default();
    let current = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == SUSPENDED)
        .map(|c| c.status.clone());
    let (value, reason, message) = if suspended {
        ("True", "JobSuspended", "Job suspended")
    } else {
        ("False", "JobResumed", "Job resumed")
    };
    if current.as_deref() == Some(value) || (current.is_none() && !suspended) {
        return Verdict::Same;
    }
    set_condition(status, condition(SUSPENDED, value, reason, message, now));
    status.start_time = (!suspended).then_some(Time(now));
    Verdict::Changed(message)
}

pub(super) fn set_condition(status: &mut JobStatus, condition: JobCondition) {
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|c| c.type_ == condition.type_) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}
