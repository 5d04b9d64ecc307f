//! Accounts for pods that have ended, in steps of which each may be the last before a crash.

use std::collections::BTreeSet;
use std::sync::Arc;

use api_client::{EventType, ObjectKey};
use futures::future::join_all;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::decision::{
    COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, completions, condition, find,
    is_indexed, set_condition,
};
use super::indexes::{self, completion_index};
use super::manage::awaits_successor;
use super::pods::is_failed;
use super::{JobController, Sync, policy, resource_version};
use crate::error::{Error, Outcome};
use crate::support::{Meta, count, nonzero, phase};

/// Pods accounted for in one go: their uids stay below 20 KB.
const MAX_UNCOUNTED: usize = 500;

impl JobController {
    /// Flushes the status, removes finalizers, counts, and ends the job when nothing is left.
    pub(super) async fn account(&self, key: &ObjectKey, mut sync: Sync, changed: bool) -> Outcome {
        let now = self.context.now();
        let before = self.jobs.get(key).and_then(|job| job.status.clone());
        let mut tracked: BTreeSet<String> = sync
            .pods
            .iter()
            .filter(|p| sync.is_tracked(p))
            .map(|p| p.uid().to_owned())
            .collect();
        clean_uncounted(&mut sync.job, &tracked);
        let (finished, all) = self.list_uncounted(&mut sync);
        write_counts(&mut sync);
        if let Some(verdict) = sync.verdict.take() {
            sync.verdict = Some(interim(&mut sync.job, verdict, now));
        }
        if changed || sync.job.status != before {
            self.flush(key, &mut sync.job).await?;
            let failures = sync.failures.clone();
            self.recall(key, &sync.job, |memory| memory.failures = failures);
        }
        let failure = self.release(key, &sync.job, &finished, &mut tracked).await;
        let counted = clean_uncounted(&mut sync.job, &tracked);
        if failure.is_none() && all && self.finish(&mut sync) {
            self.flush(key, &mut sync.job).await?;
            self.announce(&sync.job, sync.verdict.as_ref());
        } else if counted {
            self.flush(key, &mut sync.job).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Names the pods that have ended in the status. Answers them, and whether these are all.
    fn list_uncounted(&self, sync: &mut Sync) -> (Vec<Arc<Pod>>, bool) {
        let mut released = Vec::new();
        let completions = completions(&sync.job).unwrap_or(0);
        let indexed = is_indexed(&sync.job);
        let ending = sync
            .verdict
            .as_ref()
            .is_some_and(|c| c.type_ != SUCCESS_CRITERIA_MET);
        let policy = sync
            .job
            .spec
            .as_ref()
            .and_then(|s| s.pod_failure_policy.clone());
        let mut uncounted = sync
            .job
            .status
            .as_ref()
            .and_then(|s| s.uncounted_terminated_pods.clone())
            .unwrap_or_default();
        let (succeeded, failed) = (
            uncounted.succeeded.get_or_insert_default(),
            uncounted.failed.get_or_insert_default(),
        );
        let mut new_indexes = BTreeSet::new();
        let mut all = true;
        for pod in sync.pods.iter().filter(|p| sync.is_tracked(p)) {
            let has_failed = is_failed(pod, &sync.job);
            if !may_go(sync, pod, has_failed) {
                continue;
            }
            if succeeded.len() + failed.len() + new_indexes.len() >= MAX_UNCOUNTED {
                all = false;
                break;
            }
            released.push(pod.clone());
            let uid = pod.uid().to_owned();
            let index = completion_index(pod).filter(|index| *index < completions);
            if phase(pod) == "Succeeded" && !failed.contains(&uid) {
                if indexed {
                    new_indexes.extend(index);
                } else if !succeeded.contains(&uid) {
                    succeeded.push(uid);
                }
            } else if (has_failed || ending)
                && !failed.contains(&uid)
                && (!indexed || index.is_some())
                && policy::judge(policy.as_ref(), pod).counts
            {
                failed.push(uid);
            }
        }
        if indexed {
            sync.numbers.succeeded_indexes = sync
                .numbers
                .former_indexes
                .union(&new_indexes)
                .copied()
                .collect();
        }
        sync.job
            .status
            .get_or_insert_default()
            .uncounted_terminated_pods = Some(uncounted);
        (released, all)
    }

    /// Takes the finalizers off; `tracked` keeps those where that did not work.
    async fn release(
        &self,
        key: &ObjectKey,
        job: &Job,
        pods: &[Arc<Pod>],
        tracked: &mut BTreeSet<String>,
    ) -> Option<Error> {
        let answers = join_all(pods.iter().map(|pod| self.remove_finalizer(pod))).await;
        let mut failure = None;
        for (answer, pod) in answers.into_iter().zip(pods) {
            match answer {
                Ok(()) => {
                    tracked.remove(pod.uid());
                    self.recall(key, job, |memory| {
                        memory.released.insert(pod.uid().to_owned())
                    });
                }
                Err(error) => failure = Some(error),
            }
        }
        failure
    }

    /// Sets the final condition once every pod is counted and gone. Answers whether it did.
    fn finish(&self, sync: &mut Sync) -> bool {
        let Some(verdict) = sync
            .verdict
            .clone()
            .filter(|c| c.type_ == COMPLETE || c.type_ == FAILED)
        else {
            return false;
        };
        let status = sync.job.status.get_or_insert_default();
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let left = [uncounted.succeeded, uncounted.failed]
            .into_iter()
            .flatten()
            .any(|all| !all.is_empty());
        if left || sync.terminating > 0 {
            return false;
        }
        if verdict.type_ == COMPLETE {
            status.completion_time = verdict.last_transition_time.clone();
        }
        set_condition(status, verdict);
        true
    }

    fn announce(&self, job: &Job, verdict: Option<&JobCondition>) {
        let Some(verdict) = verdict else { return };
        if verdict.type_ == COMPLETE {
            let succeeded = job.status.as_ref().and_then(|s| s.succeeded).unwrap_or(0);
            if completions(job).is_some_and(|wanted| succeeded > wanted) {
                let message = "Too many succeeded pods running after completion count reached";
                self.context.recorder.record_for(
                    job,
                    EventType::Warning,
                    "TooManySucceededPods",
                    message,
                );
            }
            self.context
                .recorder
                .record_for(job, EventType::Normal, "Completed", "Job completed");
        } else {
            let (reason, message) = (
                verdict.reason.clone().unwrap_or_default(),
                verdict.message.clone(),
            );
            self.context.recorder.record_for(
                job,
                EventType::Warning,
                &reason,
                message.unwrap_or_default(),
            );
        }
    }

    async fn flush(&self, key: &ObjectKey, job: &mut Job) -> Outcome {
        *job = self.context.client.update_status(job).await?;
        job.status
            .get_or_insert_default()
            .uncounted_terminated_pods
            .get_or_insert_default();
        let written = resource_version(job);
        self.recall(key, job, |memory| memory.written = written);
        Ok(())
    }
}

/// Whether the pod's finalizer may be removed.
fn may_go(sync: &Sync, pod: &Pod, has_failed: bool) -> bool {
    sync.job.is_deleting()
        || sync.verdict.is_some()
        || phase(pod) == "Succeeded"
        || (has_failed && !awaits_successor(sync, pod))
}

/// Counts those uncounted pods whose finalizer is gone. Answers whether there were any.
fn clean_uncounted(job: &mut Job, tracked: &BTreeSet<String>) -> bool {
    let status = job.status.get_or_insert_default();
    let mut uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let mut counted = false;
    let mut clean = |list: &mut Option<Vec<String>>, number: &mut Option<i32>| {
        let Some(uids) = list else { return };
        let before = uids.len();
        uids.retain(|uid| tracked.contains(uid));
        if uids.len() != before {
            *number = Some(number.unwrap_or(0) + count(before - uids.len()));
            counted = true;
        }
        if uids.is_empty() {
            *list = None;
        }
    };
    clean(&mut uncounted.succeeded, &mut status.succeeded);
    clean(&mut uncounted.failed, &mut status.failed);
    status.uncounted_terminated_pods = Some(uncounted);
    counted
}

/// Puts the numbers of this reconciliation into the status.
fn write_counts(sync: &mut Sync) {
    let indexed = is_indexed(&sync.job);
    let numbers = &sync.numbers;
    let status: &mut JobStatus = sync.job.status.get_or_insert_default();
    status.active = nonzero(sync.active_count);
    status.ready = Some(sync.ready.max(0));
    status.terminating = Some(sync.terminating);
    if indexed {
        status.succeeded = nonzero(count(numbers.succeeded_indexes.len()));
        status.completed_indexes =
            Some(indexes::format(&numbers.succeeded_indexes)).filter(|text| !text.is_empty());
        status.failed_indexes = numbers.failed_indexes.as_ref().map(indexes::format);
    }
    if let Some(uncounted) = &mut status.uncounted_terminated_pods {
        uncounted.succeeded = uncounted.succeeded.take().filter(|all| !all.is_empty());
        uncounted.failed = uncounted.failed.take().filter(|all| !all.is_empty());
    }
}

/// Announces the end before finalizers are removed, and answers the condition that comes after.
fn interim(
    job: &mut Job,
    verdict: JobCondition,
    now: k8s_openapi::jiff::Timestamp,
) -> JobCondition {
    let last = match verdict.type_.as_str() {
        FAILURE_TARGET => FAILED,
        SUCCESS_CRITERIA_MET => COMPLETE,
        _ => return verdict,
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let end = condition(
        last,
        "True",
        &text(&verdict.reason),
        &text(&verdict.message),
        now,
    );
    if find(job, &verdict.type_).is_none() {
        set_condition(job.status.get_or_insert_default(), verdict);
    }
    end
}
