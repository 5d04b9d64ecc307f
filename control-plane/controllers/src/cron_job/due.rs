//! Which time of a schedule is due, what stands against it, and the job that it makes. Pure.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::schedule::Schedule;
use crate::support::{Meta, owner_reference};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are told of.
const TOO_MANY_MISSED: i64 = 100;

/// Why a due job is not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    TooLate(Timestamp),
    StillActive,
}

/// What is due now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Start { at: Timestamp, replace: bool },
    Refused(Refusal),
}

/// What is due now, and when to look again.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) due: Due,
    pub(super) next: Option<Timestamp>,
    pub(super) too_many_missed: bool,
}

pub(super) fn decide(cron_job: &CronJob, schedule: &Schedule, now: Timestamp) -> Decision {
    let next = schedule.after(now);
    let (latest, missed) = latest_missed(cron_job, schedule, now);
    let due = latest.map_or(Due::Nothing, |at| judge(cron_job, at, now));
    let deadline = cron_job.spec.starting_deadline_seconds;
    Decision {
        due,
        next,
        too_many_missed: missed > TOO_MANY_MISSED && deadline.is_none(),
    }
}

fn judge(cron_job: &CronJob, at: Timestamp, now: Timestamp) -> Due {
    let spec = cron_job.spec.clone();
    let status = cron_job.status.clone().unwrap_or_default();
    let deadline = spec
        .starting_deadline_seconds
        .map(SignedDuration::from_secs);
    if deadline.is_some_and(|deadline| at + deadline < now) {
        return Due::Refused(Refusal::TooLate(at));
    }
    let active = status.active.unwrap_or_default();
    let name = job_name(cron_job, at);
    if active.iter().any(|r| r.name.as_ref() == Some(&name))
        || status.last_schedule_time.is_some_and(|t| t.0 == at)
    {
        return Due::Nothing;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => Due::Refused(Refusal::StillActive),
        Some("Replace") => Due::Start { at, replace: true },
        _ => Due::Start { at, replace: false },
    }
}

/// The latest scheduled time that has come since the last one was served, and how many have.
fn latest_missed(
    cron_job: &CronJob,
    schedule: &Schedule,
    now: Timestamp,
) -> (Option<Timestamp>, i64) {
    let last = cron_job
        .status
        .as_ref()
        .and_then(|s| s.last_schedule_time.as_ref())
        .map(|t| t.0);
    let mut earliest = last.unwrap_or_else(|| cron_job.created());
    if let Some(seconds) = cron_job.spec.starting_deadline_seconds {
        earliest = earliest.max(now - SignedDuration::from_secs(seconds));
    }
    let Some(first) = schedule.after(earliest).filter(|at| *at <= now) else {
        return (None, 0);
    };
    let Some(second) = schedule.after(first).filter(|at| *at <= now) else {
        return (Some(first), 1);
    };
    // Not every missed time is visited: a long pause of a frequent schedule would be millions.
    let between = second.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / between + 1;
    let mut latest = first;
    let mut candidate =
        schedule.after(first + SignedDuration::from_secs((missed - 3).max(0) * between));
    while let Some(at) = candidate.filter(|at| *at <= now) {
        latest = at;
        candidate = schedule.after(at);
    }
    (Some(latest), missed)
}

fn job_name(cron_job: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron_job.name(), at.as_second() / 60)
}

pub(super) fn job(cron_job: &CronJob, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron_job.spec.job_template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let local = at.to_zoned(zone.clone());
    let text = if local.offset().is_zero() {
        local.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    annotations.insert(SCHEDULED_AT.into(), text);
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron_job, at)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

pub(super) fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// How the job ended (Complete or Failed), and when it completed.
pub(super) fn end_of(job: &Job) -> Option<(&'static str, Option<Timestamp>)> {
    let status = job.status.as_ref()?;
    let holds = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    if holds("Complete") {
        Some(("Complete", status.completion_time.as_ref().map(|t| t.0)))
    } else {
        holds("Failed").then_some(("Failed", None))
    }
}

/// Finished jobs beyond the history limits, oldest first.
pub(super) fn surplus_history(cron_job: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let spec = cron_job.spec.clone();
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    let mut surplus = Vec::new();
    for (kind, limit) in limits {
        let Some(limit) = limit else { continue };
        let mut ended: Vec<_> = jobs
            .iter()
            .filter(|job| !job.is_deleting() && end_of(job).is_some_and(|(end, _)| end == kind))
            .collect();
        let started = |job: &Job| {
            job.status
                .as_ref()
                .and_then(|s| s.start_time.as_ref())
                .map(|t| t.0)
        };
        ended.sort_by(|a, b| {
            started(a)
                .cmp(&started(b))
                .then_with(|| a.name().cmp(b.name()))
        });
        let over = ended
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        surplus.extend(ended.into_iter().take(over).cloned());
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn cron_job(extra: serde_json::Value, last: Option<&str>, active: bool) -> CronJob {
        let mut value = json!({
            "metadata": {"name": "c", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "*/10 * * * *", "jobTemplate": {}},
            "status": {"lastScheduleTime": last},
        });
        if active {
            value["status"]["active"] = json!([{"name": "c-1", "uid": "j"}]);
        }
        for (key, entry) in extra.as_object().into_iter().flatten() {
            value["spec"][key] = entry.clone();
        }
        serde_json::from_value(value).expect("a cron job")
    }

    fn check(cron_job: &CronJob, now: &str, expect: &str) {
        let schedule = Schedule::parse("*/10 * * * *", TimeZone::UTC).expect("a schedule");
        let decision = decide(cron_job, &schedule, at(now));
        let text = match decision.due {
            Due::Nothing => "nothing".to_owned(),
            Due::Start { at, replace } => {
                format!("start {at}{}", if replace { " replacing" } else { "" })
            }
            Due::Refused(Refusal::TooLate(at)) => format!("too late {at}"),
            Due::Refused(Refusal::StillActive) => "still active".to_owned(),
        };
        let next = decision.next.expect("there is always a next time");
        assert_eq!(format!("{text}, next {next}"), expect);
    }

    #[test]
    fn the_latest_missed_time_is_due() {
        let plain = cron_job(json!({}), None, false);
        check(
            &plain,
            "2026-01-01T00:09:59Z",
            "nothing, next 2026-01-01T00:10:00Z",
        );
        check(
            &plain,
            "2026-01-01T00:10:00Z",
            "start 2026-01-01T00:10:00Z, next 2026-01-01T00:20:00Z",
        );
        check(
            &plain,
            "2026-01-02T00:03:00Z",
            "start 2026-01-02T00:00:00Z, next 2026-01-02T00:10:00Z",
        );
        let served = cron_job(json!({}), Some("2026-01-01T00:10:00Z"), false);
        check(
            &served,
            "2026-01-01T00:12:00Z",
            "nothing, next 2026-01-01T00:20:00Z",
        );
    }

    #[test]
    fn deadline_and_concurrency() {
        let deadline = cron_job(json!({"startingDeadlineSeconds": 60}), None, false);
        check(
            &deadline,
            "2026-01-01T00:12:00Z",
            "nothing, next 2026-01-01T00:20:00Z",
        );
        check(
            &deadline,
            "2026-01-01T00:10:30Z",
            "start 2026-01-01T00:10:00Z, next 2026-01-01T00:20:00Z",
        );
        let forbid = cron_job(json!({"concurrencyPolicy": "Forbid"}), None, true);
        check(
            &forbid,
            "2026-01-01T00:10:00Z",
            "still active, next 2026-01-01T00:20:00Z",
        );
        let replace = cron_job(json!({"concurrencyPolicy": "Replace"}), None, true);
        check(
            &replace,
            "2026-01-01T00:10:00Z",
            "start 2026-01-01T00:10:00Z replacing, next 2026-01-01T00:20:00Z",
        );
    }

    #[test]
    fn a_job_is_named_after_its_time() {
        let zone = TimeZone::fixed(k8s_openapi::jiff::tz::offset(2));
        let job = job(
            &cron_job(json!({}), None, false),
            at("2026-01-01T00:10:00Z"),
            &zone,
        );
        assert_eq!(job.name(), "c-29453770");
        assert_eq!(
            job.annotation(SCHEDULED_AT),
            Some("2026-01-01T02:10:00+02:00")
        );
    }
}
