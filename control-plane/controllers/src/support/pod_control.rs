//! Creates and deletes pods in the name of their owner, with the events that users know, and batches that start small.

use std::future::Future;

use api_client::{Client, DeleteOptions, EventRecorder, EventType, Kind, is_not_found};
use api_machinery::Status;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;

use super::Meta;
use crate::context::Context;

/// Pods created or deleted at most in one reconciliation of one owner.
pub(crate) const BURST_REPLICAS: usize = 500;
/// Size of the first batch of creations; it doubles with each batch that succeeds.
const FIRST_BATCH: usize = 1;

/// Writes pods as one controller.
#[derive(Clone)]
pub(crate) struct PodControl {
    client: Client,
    recorder: EventRecorder,
}

impl PodControl {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            recorder: context.recorder.clone(),
        }
    }

    pub(crate) async fn create<O: Kind>(&self, owner: &O, pod: &Pod) -> Result<Pod, Status> {
        match self.client.create(Some(Meta::namespace(owner)), pod).await {
            Ok(created) => {
                let message = format!("Created pod: {}", created.name());
                self.recorder
                    .record_for(owner, EventType::Normal, "SuccessfulCreate", message);
                Ok(created)
            }
            Err(status) => {
                if !is_namespace_terminating(&status) {
                    let message = format!("Error creating: {status}");
                    self.recorder
                        .record_for(owner, EventType::Warning, "FailedCreate", message);
                }
                Err(status)
            }
        }
    }

    /// Deletes exactly this pod, not another that has taken its name. A pod that is gone answers NotFound.
    pub(crate) async fn delete<O: Kind>(&self, owner: &O, pod: &Pod) -> Result<(), Status> {
        let options = DeleteOptions {
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        let answer = self
            .client
            .delete::<Pod>(Some(pod.namespace()), pod.name(), &options)
            .await;
        match &answer {
            Ok(()) => {
                let message = format!("Deleted pod: {}", pod.name());
                self.recorder
                    .record_for(owner, EventType::Normal, "SuccessfulDelete", message);
            }
            Err(status) if is_not_found(status) => {}
            Err(status) => {
                let message = format!("Error deleting: {status}");
                self.recorder
                    .record_for(owner, EventType::Warning, "FailedDelete", message);
            }
        }
        answer
    }
}

/// The namespace is being deleted: nothing can be created in it any more, and nothing needs to be.
pub(crate) fn is_namespace_terminating(status: &Status) -> bool {
    status.details.iter().any(|d| {
        d.causes
            .iter()
            .any(|c| c.cause_type == "NamespaceTerminating")
    })
}

/// Calls `create` `count` times in batches that double while all succeed: a mistake shows after one attempt, not after
/// hundreds. Answers how many succeeded and the first failure.
pub(crate) async fn slow_start<F, T>(count: usize, create: F) -> (usize, Option<Status>)
where
    F: Fn(usize) -> T,
    T: Future<Output = Result<(), Status>>,
{
    let (mut successes, mut batch) = (0, FIRST_BATCH.min(count));
    while batch > 0 {
        let answers = join_all((successes..successes + batch).map(&create)).await;
        successes += answers.iter().filter(|answer| answer.is_ok()).count();
        if let Some(failure) = answers.into_iter().find_map(Result::err) {
            return (successes, Some(failure));
        }
        batch = (2 * batch).min(count - successes);
    }
    (successes, None)
}
