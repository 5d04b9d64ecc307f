//! Deletes finished Jobs when their `ttlSecondsAfterFinished` has passed.

use std::sync::Arc;

use api_client::{DeleteOptions, Informer, ObjectKey, Propagation, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::context::{Context, Controller, Queue, enqueue_on_change, until};
use crate::error::Outcome;
use crate::support::Meta;

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let jobs = context.informer::<Job>();
    enqueue_on_change(&jobs, queue);
    Arc::new(TtlAfterFinished {
        context: context.clone(),
        queue: queue.clone(),
        jobs,
    })
}

struct TtlAfterFinished {
    context: Context,
    queue: Queue,
    jobs: Informer<Job>,
}

#[async_trait]
impl Controller for TtlAfterFinished {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(job) = self.jobs.get(key) else {
            return Ok(());
        };
        let now = self.context.now();
        let Some(expiry) = expiry(&job) else {
            return Ok(());
        };
        if expiry > now {
            self.queue.add_after(key.clone(), until(now, expiry));
            return Ok(());
        }
        // The time to live may have been changed since; only the job that was judged is deleted.
        let options = DeleteOptions {
            propagation: Some(Propagation::Foreground),
            uid: job.metadata.uid.clone(),
            resource_version: job.metadata.resource_version.clone(),
            ..DeleteOptions::default()
        };
        match self
            .context
            .client
            .delete::<Job>(key.namespace(), &key.name, &options)
            .await
        {
            Err(status) if !is_not_found(&status) => Err(status.into()),
            _ => Ok(()),
        }
    }
}

/// When the job is to be deleted; none if it has not ended or may stay.
fn expiry(job: &Job) -> Option<Timestamp> {
    if job.is_deleting() {
        return None;
    }
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    let end = conditions
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(end.last_transition_time.as_ref()?.0 + SignedDuration::from_secs(ttl.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_finished_jobs_with_a_time_to_live_expire() {
        let check = |ttl: Option<i32>, kind: &str, expect: Option<&str>| {
            let job: Job = serde_json::from_value(json!({"spec": {"template": {}, "ttlSecondsAfterFinished": ttl},
                "status": {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
            .expect("a job");
            assert_eq!(
                super::expiry(&job).map(|at| at.to_string()).as_deref(),
                expect
            );
        };
        check(Some(60), "Complete", Some("2026-01-01T00:01:00Z"));
        check(Some(0), "Failed", Some("2026-01-01T00:00:00Z"));
        check(Some(60), "Suspended", None);
        check(None, "Complete", None);
    }
}
