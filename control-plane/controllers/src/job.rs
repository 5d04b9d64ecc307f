//! Job: pods that run to completion, counted exactly once.
//!
//! Each pod carries a finalizer until it is accounted for: first the job's status names the finished pod as uncounted, then
//! the finalizer goes, then the number rises. A crash between any two of these steps counts no pod twice and loses none.
//! The decisions are in `decision`, `indexes`, `policy` and `pods`; the accounting is in `accounting`.

mod accounting;
mod decision;
mod indexes;
mod manage;
mod pods;
mod policy;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api_client::{EventType, Informer, ObjectKey, Patch, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, Controller, Queue, enqueue_on_change, until};
use crate::error::Outcome;
use crate::support::{
    Expectations, Meta, PodControl, Selector, claim_objects, controller_of, is_active, is_ready,
    is_terminating, owned_and_orphans, route_pods,
};
use decision::{Verdict, is_finished, is_suspended};
use pods::FailureRecord;

/// Keeps a pod until the job's status accounts for it.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The only value of managedBy that means this controller.
const OWN_NAME: &str = "kubernetes.io/job-controller";
/// Index: namespace and job name of every pod that carries the finalizer.
const TRACKED: &str = "tracked by job";

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let jobs = context.informer::<Job>();
    let pods = context.informer::<Pod>();
    let expectations = Arc::new(Expectations::default());
    enqueue_on_change(&jobs, queue);
    route_pods::<Job>(context, queue, expectations.clone(), selector);
    pods.add_index(TRACKED, |pod| {
        let tracked = pod.has_finalizer(TRACKING);
        tracked
            .then(|| format!("{}/{}", pod.namespace(), job_name(pod)))
            .into_iter()
            .collect()
    });
    // A tracked pod whose job is gone has no owner that could be found; its key is made from the reference.
    let keys = queue.clone();
    pods.on_change(move |change| {
        let pod = change.object();
        if pod.has_finalizer(TRACKING) {
            keys.add(ObjectKey::new(pod.namespace(), job_name(pod)));
        }
    });
    Arc::new(JobController {
        pod_control: PodControl::new(context),
        context: context.clone(),
        queue: queue.clone(),
        jobs,
        pods,
        expectations,
        memory: Mutex::default(),
    })
}

/// The job that controls the pod, or nothing.
fn job_name(pod: &Pod) -> &str {
    controller_of(pod)
        .filter(|owner| owner.kind == "Job")
        .map_or("", |owner| owner.name.as_str())
}

fn selector(job: &Job) -> Outcome<Selector> {
    match job.spec.as_ref().and_then(|s| s.selector.as_ref()) {
        Some(selector) => Selector::new(Some(selector)),
        None => {
            let labels = BTreeMap::from([(
                "batch.kubernetes.io/controller-uid".to_owned(),
                job.uid().to_owned(),
            )]);
            Ok(Selector::of_labels(&labels))
        }
    }
}

/// What is remembered of a job between reconciliations.
#[derive(Default)]
struct Memory {
    failures: FailureRecord,
    /// Pods whose finalizer was removed but which the informer still shows with it.
    released: BTreeSet<String>,
    /// The resourceVersion of the last own write.
    written: u64,
}

struct JobController {
    context: Context,
    queue: Queue,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    expectations: Arc<Expectations>,
    pod_control: PodControl,
    memory: Mutex<HashMap<ObjectKey, (String, Memory)>>,
}

/// One reconciliation's view of a job.
struct Sync {
    job: Job,
    pods: Vec<Arc<Pod>>,
    active: Vec<Arc<Pod>>,
    /// Pods whose finalizer is gone already, whatever the informer shows.
    released: BTreeSet<String>,
    failures: FailureRecord,
    numbers: decision::Numbers,
    terminating: i32,
    ready: i32,
    active_count: i32,
    verdict: Option<JobCondition>,
}

impl Sync {
    /// Whether the pod still has to be accounted for.
    fn is_tracked(&self, pod: &Pod) -> bool {
        pod.has_finalizer(TRACKING) && !self.released.contains(pod.uid())
    }
}

fn resource_version(job: &Job) -> u64 {
    job.metadata
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

#[async_trait]
impl Controller for JobController {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let job = self.jobs.get(key);
        self.release_orphans(key, job.as_deref()).await?;
        let Some(job) = job else {
            self.expectations.forget(key);
            self.memory.lock().remove(key);
            return Ok(());
        };
        let managed_by = job
            .spec
            .as_ref()
            .and_then(|s| s.managed_by.as_deref())
            .unwrap_or(OWN_NAME);
        if managed_by != OWN_NAME {
            return Ok(());
        }
        if is_finished(&job) {
            self.memory.lock().remove(key);
            return Ok(());
        }
        if self.recall(key, &job, |memory| memory.written) > resource_version(&job) {
            // The informer does not show our own last write yet; its arrival brings the key back.
            return Ok(());
        }
        let satisfied = self.expectations.satisfied(key);
        let mut sync = self.observe(key, &job).await?;
        let conditions_changed = self.act(key, &mut sync, satisfied).await?;
        let ConditionsAndFailure { changed, failure } = conditions_changed;
        self.account(key, sync, changed).await?;
        failure.map_or(Ok(()), Err)
    }
}

/// Whether conditions or times changed, and what went wrong with pods.
struct ConditionsAndFailure {
    changed: bool,
    failure: Option<crate::error::Error>,
}

impl JobController {
    fn recall<T>(&self, key: &ObjectKey, job: &Job, read: impl FnOnce(&mut Memory) -> T) -> T {
        let mut all = self.memory.lock();
        let (uid, memory) = all
            .entry(key.clone())
            .or_insert_with(|| (job.uid().to_owned(), Memory::default()));
        if uid != job.uid() {
            (*uid, *memory) = (job.uid().to_owned(), Memory::default());
        }
        read(memory)
    }

    /// Lets go of pods that no unfinished job will ever account for.
    async fn release_orphans(&self, key: &ObjectKey, job: Option<&Job>) -> Outcome {
        for pod in self
            .pods
            .by_index(TRACKED, &format!("{}/{}", key.namespace, key.name))
        {
            let owner = controller_of(pod.as_ref());
            if owner.is_some_and(|o| o.kind != "Job") {
                continue;
            }
            let accountable = job.filter(|job| owner.is_some_and(|o| o.uid == job.uid()));
            if accountable.is_none_or(is_finished) {
                self.remove_finalizer(&pod).await?;
            }
        }
        Ok(())
    }

    /// Takes the finalizer off; a pod that is gone needs nothing.
    async fn remove_finalizer(&self, pod: &Pod) -> Outcome {
        let finalizers =
            json!({"$deleteFromPrimitiveList/finalizers": [TRACKING], "uid": pod.uid()});
        let patch = Patch::Strategic(json!({ "metadata": finalizers }));
        match self
            .context
            .client
            .patch::<Pod>(Some(pod.namespace()), pod.name(), "", &patch)
            .await
        {
            Err(status) if !is_not_found(&status) && !api_client::is_invalid(&status) => {
                Err(status.into())
            }
            _ => Ok(()),
        }
    }

    async fn observe(&self, key: &ObjectKey, job: &Job) -> Outcome<Sync> {
        let candidates = owned_and_orphans(&self.pods, job);
        let client = &self.context.client;
        let pods = claim_objects(client, job, &selector(job)?, candidates, Some(TRACKING)).await?;
        let mut job = job.clone();
        let status = job.status.get_or_insert_default();
        status.uncounted_terminated_pods.get_or_insert_default();
        if status.start_time.is_none() && !is_suspended(&job) {
            let now = self.context.now();
            job.status.get_or_insert_default().start_time = Some(now.into());
        }
        let (released, failures) = self.recall(key, &job, |memory| {
            let shown = |uid: &String| {
                pods.iter()
                    .any(|p| p.uid() == uid && p.has_finalizer(TRACKING))
            };
            memory.released.retain(shown);
            (memory.released.clone(), memory.failures.clone())
        });
        let active: Vec<Arc<Pod>> = pods.iter().filter(|p| is_active(p)).cloned().collect();
        let count = |holds: &dyn Fn(&Pod) -> bool| {
            crate::support::count(pods.iter().filter(|p| holds(p)).count())
        };
        let mut sync = Sync {
            terminating: count(&is_terminating),
            ready: count(&|p| is_active(p) && is_ready(p)),
            active_count: crate::support::count(active.len()),
            numbers: decision::Numbers::default(),
            verdict: None,
            job,
            pods,
            active,
            released,
            failures,
        };
        sync.numbers = decision::count_pods(&sync);
        sync.failures = sync
            .failures
            .clone()
            .with(&pods::newly_finished(&sync), self.context.now());
        Ok(sync)
    }

    /// Decides whether the job has ended and brings the number of pods closer to what it asks for.
    async fn act(
        &self,
        key: &ObjectKey,
        sync: &mut Sync,
        satisfied: bool,
    ) -> Outcome<ConditionsAndFailure> {
        let now = self.context.now();
        sync.verdict = decision::verdict(sync, now);
        if sync.verdict.is_some() {
            let (deleted, failure) = self.delete_active(sync).await;
            if deleted != sync.active_count || !satisfied {
                // Not finished yet: pods may remain, or may not have been seen.
                sync.verdict = None;
            }
            sync.active_count -= deleted;
            sync.terminating += deleted;
            return Ok(ConditionsAndFailure {
                changed: false,
                failure,
            });
        }
        if let Some(at) = decision::deadline(&sync.job) {
            self.queue.add_after(key.clone(), until(now, at));
        }
        if !satisfied || sync.job.is_deleting() {
            return Ok(ConditionsAndFailure {
                changed: false,
                failure: None,
            });
        }
        let failure = self.manage(key, sync, now).await;
        let mut changed = false;
        if decision::is_complete(sync) {
            sync.verdict = Some(decision::success(now));
        } else if let Verdict::Changed(message) = decision::note_suspension(&mut sync.job, now) {
            let reason = if is_suspended(&sync.job) {
                "Suspended"
            } else {
                "Resumed"
            };
            self.context
                .recorder
                .record_for(&sync.job, EventType::Normal, reason, message);
            changed = true;
        }
        Ok(ConditionsAndFailure { changed, failure })
    }

    fn come_back(&self, key: &ObjectKey, after: Duration) {
        self.queue.add_after(key.clone(), after);
    }
}
