//! StatefulSet: pods with names, volumes and an order that stay.
//!
//! What comes next is decided in `plan`; `identity` says what the pod and the claims of an ordinal look like. Names are
//! fixed, so the same step taken twice meets its own result: no expectations are needed.

mod claims;
mod identity;
mod plan;

use std::sync::Arc;

use api_client::{DeleteOptions, EventType, Informer, ObjectKey, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};

use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::{Error, Outcome};
use crate::support::history::{
    Current, REVISION_HASH, ensure_current, revisions_of, template_of, truncate_history,
};
use crate::support::{
    Expectations, Meta, Selector, claim_objects, controller_of, is_namespace_terminating,
    next_availability, owned_and_orphans, route_pods,
};
use identity::ordinal;
use plan::{Action, Revisions};

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let sets = context.informer::<StatefulSet>();
    enqueue_on_change(&sets, queue);
    route_pods::<StatefulSet>(context, queue, Arc::new(Expectations::default()), selector);
    Arc::new(StatefulSetController {
        context: context.clone(),
        queue: queue.clone(),
        sets,
        pods: context.informer(),
        claims: context.informer(),
        revisions: context.informer(),
    })
}

fn selector(set: &StatefulSet) -> Outcome<Selector> {
    Selector::new(set.spec.as_ref().map(|s| &s.selector))
}

struct StatefulSetController {
    context: Context,
    queue: Queue,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
}

#[async_trait]
impl Controller for StatefulSetController {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(set) = self.sets.get(key) else {
            return Ok(());
        };
        let set = set.as_ref();
        let mut candidates = owned_and_orphans(&self.pods, set);
        candidates
            .retain(|pod| controller_of(pod.as_ref()).is_some() || ordinal(set, pod).is_some());
        let pods =
            claim_objects(&self.context.client, set, &selector(set)?, candidates, None).await?;
        let history = revisions_of(&self.revisions, set);
        let revisions = self.revisions(set, &history).await?;
        let now = self.context.now();
        let actions = if set.is_deleting() {
            Vec::new()
        } else {
            plan::plan(set, &pods, &revisions, now)?
        };
        let mut failure = None;
        for action in actions {
            if let Err(error) = self.carry_out(set, &revisions, action).await {
                failure = Some(error);
                break;
            }
        }
        self.report(key, set, &pods, &revisions).await?;
        self.clean_up_history(set, &history, &pods, &revisions)
            .await?;
        failure.map_or(Ok(()), Err)
    }
}

impl StatefulSetController {
    /// The revision that is being rolled out, and the one that pods had before.
    async fn revisions(
        &self,
        set: &StatefulSet,
        history: &[Arc<ControllerRevision>],
    ) -> Outcome<Revisions> {
        let template = set
            .spec
            .as_ref()
            .map(|s| s.template.clone())
            .unwrap_or_default();
        let collision_count = set.status.as_ref().and_then(|s| s.collision_count);
        let update = match ensure_current(
            &self.context.client,
            set,
            &template,
            collision_count,
            history,
        )
        .await?
        {
            Current::Revision(revision) => revision,
            Current::Collision => {
                let mut set = set.clone();
                set.status.get_or_insert_default().collision_count =
                    Some(collision_count.unwrap_or(0) + 1);
                self.context.client.update_status(&set).await?;
                return Err(Error::NotReady(format!(
                    "the hash of {}'s template collides",
                    set.name()
                )));
            }
        };
        let current_name = set
            .status
            .as_ref()
            .and_then(|s| s.current_revision.as_deref());
        let current = history
            .iter()
            .find(|r| Some(r.name()) == current_name)
            .unwrap_or(&update)
            .clone();
        Ok(Revisions { current, update })
    }

    async fn carry_out(&self, set: &StatefulSet, revisions: &Revisions, action: Action) -> Outcome {
        match action {
            Action::Create { ordinal, updated } => {
                let revision = if updated {
                    &revisions.update
                } else {
                    &revisions.current
                };
                let template = template_of(revision).unwrap_or_default();
                self.create(set, ordinal, &template, revision.name()).await
            }
            Action::Delete(pod) => self.delete(set, &pod).await,
            Action::EnsureClaims(pod) => self.ensure_claims(set, &pod).await,
            Action::FixIdentity(pod) => {
                let mut fixed = (*pod).clone();
                identity::apply(set, &mut fixed, ordinal(set, &pod).unwrap_or(0));
                self.context.client.update(&fixed).await?;
                Ok(())
            }
            Action::FixClaims { pod, condemned } => self.fix_claims(set, &pod, condemned).await,
        }
    }

    async fn create(
        &self,
        set: &StatefulSet,
        ordinal: i32,
        template: &PodTemplateSpec,
        revision: &str,
    ) -> Outcome {
        let mut pod = identity::new_pod(set, template, ordinal);
        pod.metadata
            .labels
            .get_or_insert_default()
            .insert(REVISION_HASH.into(), revision.into());
        self.ensure_claims(set, &pod).await?;
        let (name, owner) = (pod.name().to_owned(), set.name());
        match self
            .context
            .client
            .create(Some(set.namespace()), &pod)
            .await
        {
            Ok(_) => {
                let message = format!("create Pod {name} in StatefulSet {owner} successful");
                self.context.recorder.record_for(
                    set,
                    EventType::Normal,
                    "SuccessfulCreate",
                    message,
                );
                Ok(())
            }
            Err(status) if is_namespace_terminating(&status) => Ok(()),
            Err(status) => {
                if !api_client::is_already_exists(&status) {
                    let message =
                        format!("create Pod {name} in StatefulSet {owner} failed error: {status}");
                    self.context.recorder.record_for(
                        set,
                        EventType::Warning,
                        "FailedCreate",
                        message,
                    );
                }
                Err(status.into())
            }
        }
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Outcome {
        let options = DeleteOptions {
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        let (name, owner) = (pod.name(), set.name());
        match self
            .context
            .client
            .delete::<Pod>(Some(pod.namespace()), name, &options)
            .await
        {
            Ok(()) => {
                let message = format!("delete Pod {name} in StatefulSet {owner} successful");
                self.context.recorder.record_for(
                    set,
                    EventType::Normal,
                    "SuccessfulDelete",
                    message,
                );
                Ok(())
            }
            Err(status) if is_not_found(&status) => Ok(()),
            Err(status) => {
                let message =
                    format!("delete Pod {name} in StatefulSet {owner} failed error: {status}");
                self.context
                    .recorder
                    .record_for(set, EventType::Warning, "FailedDelete", message);
                Err(status.into())
            }
        }
    }

    async fn ensure_claims(&self, set: &StatefulSet, pod: &Pod) -> Outcome {
        for claim in claims::of_pod(set, pod) {
            let key = ObjectKey::new(set.namespace(), claim.name());
            if let Some(existing) = self.claims.get(&key) {
                if existing.is_deleting() {
                    let message = format!("pvc {} is being deleted", claim.name());
                    self.context.recorder.record_for(
                        set,
                        EventType::Warning,
                        "FailedCreate",
                        message.clone(),
                    );
                    return Err(Error::NotReady(message));
                }
                continue;
            }
            let (name, pod_name, owner) = (claim.name(), pod.name(), set.name());
            match self
                .context
                .client
                .create(Some(set.namespace()), &claim)
                .await
            {
                Ok(_) => {
                    let message = format!(
                        "create Claim {name} Pod {pod_name} in StatefulSet {owner} success"
                    );
                    self.context.recorder.record_for(
                        set,
                        EventType::Normal,
                        "SuccessfulCreate",
                        message,
                    );
                }
                Err(status) if api_client::is_already_exists(&status) => {}
                Err(status) => {
                    let message = format!(
                        "create Claim {name} for Pod {pod_name} in StatefulSet {owner} failed error: {status}"
                    );
                    self.context.recorder.record_for(
                        set,
                        EventType::Warning,
                        "FailedCreate",
                        message,
                    );
                    return Err(status.into());
                }
            }
        }
        Ok(())
    }

    async fn fix_claims(&self, set: &StatefulSet, pod: &Pod, condemned: bool) -> Outcome {
        for wanted in claims::of_pod(set, pod) {
            let Some(claim) = self
                .claims
                .get(&ObjectKey::new(set.namespace(), wanted.name()))
            else {
                continue;
            };
            if let Some(changed) = claims::with_owner(set, pod, &claim, condemned) {
                self.context.client.update(&changed).await?;
            }
        }
        Ok(())
    }

    async fn report(
        &self,
        key: &ObjectKey,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
        revisions: &Revisions,
    ) -> Outcome {
        let now = self.context.now();
        let status = plan::status(set, pods, revisions, now);
        if set.status.as_ref() != Some(&status) {
            let changed = StatefulSet {
                status: Some(status.clone()),
                ..set.clone()
            };
            self.context.client.update_status(&changed).await?;
        }
        if status.ready_replicas != status.available_replicas
            && let Some(wait) = next_availability(pods, plan::min_ready_seconds(set), now)
        {
            self.queue.add_after(key.clone(), wait);
        }
        Ok(())
    }

    async fn clean_up_history(
        &self,
        set: &StatefulSet,
        history: &[Arc<ControllerRevision>],
        pods: &[Arc<Pod>],
        revisions: &Revisions,
    ) -> Outcome {
        let limit = set
            .spec
            .as_ref()
            .and_then(|s| s.revision_history_limit)
            .unwrap_or(10);
        let used = |revision: &ControllerRevision| {
            let name = revision.name();
            name == revisions.current.name()
                || name == revisions.update.name()
                || pods.iter().any(|pod| {
                    pod.labels()
                        .get(REVISION_HASH)
                        .is_some_and(|label| label == name)
                })
        };
        truncate_history(&self.context.client, history, limit, used).await
    }
}
