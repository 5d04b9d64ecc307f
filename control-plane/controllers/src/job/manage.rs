//! Makes and removes a job's pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_client::{ObjectKey, is_not_found};
use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::jiff::Timestamp;

use super::decision::{completions, is_indexed, is_suspended};
use super::indexes::{
    self, COMPLETION_INDEX, FAILURE_COUNT, IGNORED_FAILURE_COUNT, completion_index,
};
use super::pods::{finished_at, is_failed, pause_left, to_remove};
use super::policy::only_replace_failed;
use super::{JobController, Sync, TRACKING};
use crate::error::Error;
use crate::support::{
    BURST_REPLICAS, Meta, count, is_namespace_terminating, is_ready, owner_reference,
    pod_from_template, slow_start,
};

/// Names of indexed pods are host names plus five random characters.
const INDEXED_PREFIX_LIMIT: usize = 58;

impl JobController {
    /// One step towards the number of active pods that the job asks for; counts in `sync` follow.
    pub(super) async fn manage(
        &self,
        key: &ObjectKey,
        sync: &mut Sync,
        now: Timestamp,
    ) -> Option<Error> {
        let parallelism = sync
            .job
            .spec
            .as_ref()
            .and_then(|s| s.parallelism)
            .unwrap_or(1);
        let active = sync.active_count;
        let wanted = match completions(&sync.job) {
            _ if is_suspended(&sync.job) => 0,
            None if sync.numbers.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => (completions - sync.numbers.succeeded)
                .min(parallelism)
                .max(0),
        };
        let surplus = usize::try_from(active - wanted).unwrap_or(0);
        let mut removed = to_remove(sync, surplus, now);
        removed.truncate(BURST_REPLICAS);
        if !removed.is_empty() {
            return self.remove(key, sync, &removed).await;
        }
        let terminating = if only_replace_failed(&sync.job) {
            sync.terminating
        } else {
            0
        };
        let missing = usize::try_from(wanted - terminating - active)
            .unwrap_or(0)
            .min(BURST_REPLICAS);
        if missing == 0 || is_suspended(&sync.job) {
            return None;
        }
        let per_index = sync.numbers.failed_indexes.is_some();
        let pause = if per_index {
            Duration::ZERO
        } else {
            sync.failures.remaining(now)
        };
        if !pause.is_zero() {
            self.come_back(key, pause);
            return None;
        }
        let indexes: Vec<Option<i32>> = if is_indexed(&sync.job) {
            let pending = indexes::pending(sync, missing);
            let (ready, pause) = if per_index {
                startable(sync, pending, now)
            } else {
                (pending, None)
            };
            if let Some(pause) = pause {
                self.come_back(key, pause);
            }
            ready.into_iter().map(Some).collect()
        } else {
            vec![None; missing]
        };
        self.create(key, sync, &indexes).await
    }

    /// Deletes pods that are no longer wanted; they count neither as succeeded nor as failed.
    async fn remove(&self, key: &ObjectKey, sync: &mut Sync, pods: &[Arc<Pod>]) -> Option<Error> {
        self.expectations
            .expect_deletions(key, pods.iter().map(|p| p.uid().to_owned()));
        let answers = join_all(pods.iter().map(|pod| async {
            if pod.has_finalizer(TRACKING) {
                self.remove_finalizer(pod).await?;
            }
            match self.pod_control.delete(&sync.job, pod).await {
                Err(status) if !is_not_found(&status) => Err(Error::Api(status)),
                _ => Ok(()),
            }
        }))
        .await;
        let mut failure = None;
        for (answer, pod) in answers.into_iter().zip(pods) {
            match answer {
                Ok(()) => {
                    sync.active_count -= 1;
                    sync.terminating += 1;
                    sync.ready -= i32::from(is_ready(pod));
                }
                Err(error) => {
                    self.expectations.deletion_observed(key, pod.uid());
                    failure = Some(error);
                }
            }
        }
        failure
    }

    /// Deletes what still runs of a job that has ended. Answers how many are on their way out.
    pub(super) async fn delete_active(&self, sync: &mut Sync) -> (i32, Option<Error>) {
        let answers = join_all(sync.active.iter().map(|pod| async {
            match self.pod_control.delete(&sync.job, pod).await {
                Err(status) if !is_not_found(&status) => Err(Error::Api(status)),
                _ => Ok(i32::from(is_ready(pod))),
            }
        }))
        .await;
        let (mut deleted, mut failure) = (0, None);
        for answer in answers {
            match answer {
                Ok(ready) => {
                    deleted += 1;
                    sync.ready -= ready;
                }
                Err(error) => failure = Some(error),
            }
        }
        (deleted, failure)
    }

    async fn create(
        &self,
        key: &ObjectKey,
        sync: &mut Sync,
        indexes: &[Option<i32>],
    ) -> Option<Error> {
        self.expectations.expect_creations(key, indexes.len());
        let this: &Sync = sync;
        let (created, failure) = slow_start(indexes.len(), |at| async move {
            match self
                .pod_control
                .create(&this.job, &new_pod(this, indexes[at]))
                .await
            {
                Err(status) if is_namespace_terminating(&status) => {
                    self.expectations.creation_observed(key);
                    Ok(())
                }
                answer => answer.map(drop),
            }
        })
        .await;
        for _ in created..indexes.len() {
            self.expectations.creation_observed(key);
        }
        sync.active_count += count(created);
        failure.map(Error::Api)
    }
}

/// The failed pod of each index whose failure count its successor has to take over.
fn last_failed(sync: &Sync, index: i32) -> Option<&Arc<Pod>> {
    let failed = sync
        .pods
        .iter()
        .filter(|p| is_failed(p, &sync.job) && completion_index(p) == Some(index));
    failed
        .filter(|p| sync.is_tracked(p))
        .max_by_key(|p| finished_at(p))
}

/// Indexes whose pause after a failure is over, and how long until the next one's is.
fn startable(sync: &Sync, pending: Vec<i32>, now: Timestamp) -> (Vec<i32>, Option<Duration>) {
    let pause = |index: i32| {
        let Some(failed) = last_failed(sync, index) else {
            return Duration::ZERO;
        };
        let (counted, ignored) = indexes::failure_counts_after(sync, Some(failed));
        pause_left(
            u32::try_from(counted + ignored).unwrap_or(0),
            finished_at(failed).unwrap_or(now),
            now,
        )
    };
    let (ready, waiting): (Vec<i32>, Vec<i32>) = pending
        .into_iter()
        .partition(|index| pause(*index).is_zero());
    (ready, waiting.into_iter().map(pause).min())
}

/// Whether the pod must stay until its successor has taken over its index's failure count.
pub(super) fn awaits_successor(sync: &Sync, pod: &Pod) -> bool {
    let Some(failed) = &sync.numbers.failed_indexes else {
        return false;
    };
    let Some(index) = completion_index(pod) else {
        return false;
    };
    let settled = sync.numbers.succeeded_indexes.contains(&index)
        || failed.contains(&index)
        || sync
            .active
            .iter()
            .any(|p| completion_index(p) == Some(index));
    !settled && last_failed(sync, index).is_some_and(|last| last.uid() == pod.uid())
}

fn new_pod(sync: &Sync, index: Option<i32>) -> Pod {
    let job = &sync.job;
    let template = job
        .spec
        .as_ref()
        .map(|s| s.template.clone())
        .unwrap_or_default();
    let mut pod = pod_from_template(&template, job.namespace(), owner_reference(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == TRACKING) {
        finalizers.push(TRACKING.into());
    }
    pod.metadata.generate_name = Some(format!("{}-", job.name()));
    for (key, value) in identity_labels(job) {
        pod.metadata
            .labels
            .get_or_insert_default()
            .entry(key.into())
            .or_insert(value);
    }
    if let Some(index) = index {
        add_index(sync, &mut pod, index);
    }
    pod
}

fn identity_labels(job: &Job) -> BTreeMap<&'static str, String> {
    let (uid, name) = (job.uid().to_owned(), job.name().to_owned());
    let manual = job.spec.as_ref().and_then(|s| s.manual_selector) == Some(true);
    if manual {
        return BTreeMap::new();
    }
    BTreeMap::from([
        ("controller-uid", uid.clone()),
        ("batch.kubernetes.io/controller-uid", uid),
        ("job-name", name.clone()),
        ("batch.kubernetes.io/job-name", name),
    ])
}

fn add_index(sync: &Sync, pod: &mut Pod, index: i32) {
    let job = &sync.job;
    let suffix = format!("-{index}-");
    let prefix: String = job
        .name()
        .chars()
        .take(INDEXED_PREFIX_LIMIT - suffix.len())
        .collect();
    pod.metadata.generate_name = Some(format!("{prefix}{suffix}"));
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(COMPLETION_INDEX.into(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(COMPLETION_INDEX.into(), index.to_string());
    if sync.numbers.failed_indexes.is_some() {
        let former = last_failed(sync, index).map(Arc::as_ref);
        let (counted, ignored) = indexes::failure_counts_after(sync, former);
        annotations.insert(FAILURE_COUNT.into(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURE_COUNT.into(), ignored.to_string());
        }
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{}-{index}", job.name()));
    spec.containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
        .for_each(add_index_variable);
}

fn add_index_variable(container: &mut Container) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == NAME) {
        return;
    }
    variables.push(EnvVar {
        name: NAME.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{COMPLETION_INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
    });
}
