//! ReplicaSet and ReplicationController: keep so many pods of one template running.
//!
//! Both kinds are one algorithm over [`Replicated`]. A key is left alone while pods that were created or deleted for it
//! have not been seen yet, so a lagging informer never leads to too many pods.

mod kinds;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use api_client::{Informer, ObjectKey, is_not_found};
use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};

use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::{Error, Outcome};
use crate::support::{
    Expectations, Meta, PodControl, claim_objects, controller_of, is_active, is_controlled_by,
    is_namespace_terminating, is_terminating, next_availability, owned_and_orphans,
    owner_reference, pod_from_template, route_pods, slow_start,
};
use kinds::Replicated;
use plan::{Plan, calculate_status, plan};

pub(crate) fn start_replica_set(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    ReplicaController::<ReplicaSet>::start(context, queue)
}

pub(crate) fn start_replication_controller(
    context: &Context,
    queue: &Queue,
) -> Arc<dyn Controller> {
    ReplicaController::<ReplicationController>::start(context, queue)
}

struct ReplicaController<K: Replicated> {
    context: Context,
    queue: Queue,
    owners: Informer<K>,
    pods: Informer<Pod>,
    expectations: Arc<Expectations>,
    pod_control: PodControl,
}

impl<K: Replicated> ReplicaController<K> {
    fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
        let owners = context.informer::<K>();
        let expectations = Arc::new(Expectations::default());
        enqueue_on_change(&owners, queue);
        route_pods::<K>(context, queue, expectations.clone(), K::selector);
        Arc::new(Self {
            pod_control: PodControl::new(context),
            context: context.clone(),
            queue: queue.clone(),
            owners,
            pods: context.informer(),
            expectations,
        })
    }

    async fn carry_out(&self, key: &ObjectKey, owner: &K, plan: Plan) -> Outcome {
        match plan {
            Plan::Nothing => Ok(()),
            Plan::Create(count) => self.create(key, owner, count).await,
            Plan::Delete(pods) => self.delete(key, owner, &pods).await,
        }
    }

    async fn create(&self, key: &ObjectKey, owner: &K, count: usize) -> Outcome {
        let Some(template) = owner.template() else {
            return Ok(());
        };
        let mut pod = pod_from_template(template, Meta::namespace(owner), owner_reference(owner));
        pod.metadata.generate_name = Some(format!("{}-", Meta::name(owner)));
        self.expectations.expect_creations(key, count);
        let (created, failure) = slow_start(count, |_| async {
            match self.pod_control.create(owner, &pod).await {
                Err(status) if is_namespace_terminating(&status) => {
                    self.expectations.creation_observed(key);
                    Ok(())
                }
                answer => answer.map(drop),
            }
        })
        .await;
        for _ in created..count {
            self.expectations.creation_observed(key);
        }
        failure.map_or(Ok(()), |status| Err(status.into()))
    }

    async fn delete(&self, key: &ObjectKey, owner: &K, pods: &[Arc<Pod>]) -> Outcome {
        self.expectations
            .expect_deletions(key, pods.iter().map(|p| p.uid().to_owned()));
        let answers = join_all(pods.iter().map(|pod| async {
            let answer = self.pod_control.delete(owner, pod).await;
            if answer.is_err() {
                self.expectations.deletion_observed(key, pod.uid());
            }
            answer
        }));
        let failure = answers
            .await
            .into_iter()
            .filter_map(Result::err)
            .find(|status| !is_not_found(status));
        failure.map_or(Ok(()), |status| Err(status.into()))
    }

    /// Pods of every owner under the same higher owner (all ReplicaSets of one Deployment).
    fn related_pods(&self, owner: &K) -> Vec<Arc<Pod>> {
        match controller_of(owner) {
            None => self.pods.by_owner(Meta::uid(owner)),
            Some(higher) => {
                let siblings = self.owners.by_owner(&higher.uid);
                siblings
                    .iter()
                    .flat_map(|sibling| self.pods.by_owner(Meta::uid(sibling.as_ref())))
                    .collect()
            }
        }
    }
}

#[async_trait]
impl<K: Replicated> Controller for ReplicaController<K> {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(owner) = self.owners.get(key) else {
            self.expectations.forget(key);
            return Ok(());
        };
        let owner = owner.as_ref();
        // Asked before the pods are read: what is satisfied now is visible in what is read next.
        let may_manage = self.expectations.satisfied(key) && !Meta::is_deleting(owner);
        let selector = K::selector(owner)?;
        let all = owned_and_orphans(&self.pods, owner);
        let terminating = all
            .iter()
            .filter(|p| is_terminating(p) && is_controlled_by(p.as_ref(), owner))
            .count();
        let active: Vec<_> = all.into_iter().filter(|p| is_active(p)).collect();
        let active = claim_objects(&self.context.client, owner, &selector, active, None).await?;
        let now = self.context.now();
        let mut failure: Option<Error> = None;
        if may_manage {
            let plan = plan(owner.replicas(), &active, || self.related_pods(owner), now);
            failure = self.carry_out(key, owner, plan).await.err();
        }
        let status = calculate_status(owner, &active, terminating, failure.as_ref(), now);
        if status != owner.status() {
            self.context
                .client
                .update_status(&owner.with_status(status.clone()))
                .await?;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let min_ready_seconds = owner.min_ready_seconds();
        if status.ready_replicas != status.available_replicas {
            let fallback = Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or(0));
            let wait = next_availability(&active, min_ready_seconds, now).unwrap_or(fallback);
            self.queue.add_after(key.clone(), wait);
        }
        Ok(())
    }
}
