//! Deployment: rolls ReplicaSets over from one pod template to the next.
//!
//! Each template is one ReplicaSet, named after the template's hash, so doing the same thing twice is harmless. What to
//! scale is decided in `plan`, what to say about it in `status`, how revisions are counted in `revision`.

mod plan;
mod revision;
mod status;

use std::sync::Arc;

use api_client::{Change, EventType, Informer, Kind, ObjectKey, is_already_exists, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::{Error, Outcome};
use crate::support::{
    Expectations, Meta, Selector, claim_objects, controller_of, is_controlled_by,
    is_namespace_terminating, is_terminal, owned_and_orphans, resolve, route_dependents,
};
use plan::{Scale, Strategy};
use status::{Progress, Reporter};

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let deployments = context.informer::<Deployment>();
    let replica_sets = context.informer::<ReplicaSet>();
    let pods = context.informer::<Pod>();
    enqueue_on_change(&deployments, queue);
    route_dependents::<Deployment, ReplicaSet>(
        context,
        queue,
        Arc::new(Expectations::default()),
        selector,
    );
    // With the Recreate strategy the last old pod's end lets the rollout go on.
    let (sets, owners, keys) = (replica_sets.clone(), deployments.clone(), queue.clone());
    pods.on_change(move |change| {
        let pod = change.object();
        if !matches!(change, Change::Deleted(_)) && !is_terminal(pod) {
            return;
        }
        let set =
            controller_of(pod.as_ref()).and_then(|owner| resolve(&sets, pod.namespace(), owner));
        let deployment =
            set.and_then(|set| resolve(&owners, pod.namespace(), controller_of(set.as_ref())?));
        if let Some(deployment) = deployment.filter(|d| Strategy::of(d) == Strategy::Recreate) {
            keys.add(ObjectKey::of(deployment.as_ref()));
        }
    });
    Arc::new(DeploymentController {
        context: context.clone(),
        queue: queue.clone(),
        deployments,
        replica_sets,
        pods,
    })
}

fn selector(deployment: &Deployment) -> Outcome<Selector> {
    Selector::new(deployment.spec.as_ref().map(|s| &s.selector))
}

struct DeploymentController {
    context: Context,
    queue: Queue,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

/// A deployment and its replica sets while one reconciliation works on them.
struct Rollout {
    deployment: Deployment,
    /// The set of the current template, once there is one.
    new: Option<ReplicaSet>,
    old: Vec<ReplicaSet>,
}

impl Rollout {
    fn all(&self) -> Vec<&ReplicaSet> {
        self.old.iter().chain(&self.new).collect()
    }

    fn replace(&mut self, set: ReplicaSet) {
        let all = self.old.iter_mut().chain(&mut self.new);
        if let Some(place) = all.into_iter().find(|s| s.uid() == set.uid()) {
            *place = set;
        }
    }
}

#[async_trait]
impl Controller for DeploymentController {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(());
        };
        let selector = selector(&deployment)?;
        if selector.is_empty() {
            return self.refuse_empty_selector(&deployment).await;
        }
        let candidates = owned_and_orphans(&self.replica_sets, deployment.as_ref());
        let sets = claim_objects(
            &self.context.client,
            deployment.as_ref(),
            &selector,
            candidates,
            None,
        )
        .await?;
        let (new, old) = revision::split(&deployment, &sets);
        let mut rollout = Rollout {
            deployment: (*deployment).clone(),
            new,
            old,
        };
        if deployment.is_deleting() {
            return self.report(&rollout, Progress::Keep).await;
        }
        let now = self.context.now();
        if let Some(status) = Reporter::new(now).pause_or_resume(&rollout.deployment) {
            rollout.deployment.status = Some(status);
            rollout.deployment = self
                .context
                .client
                .update_status(&rollout.deployment)
                .await?;
        }
        self.sync_new(&mut rollout).await?;
        let paused = plan::is_paused(&rollout.deployment);
        if paused || plan::is_scaling_event(&rollout.deployment, &rollout.all()) {
            let steps = plan::proportional(&rollout.deployment, rollout.new.as_ref(), &rollout.old);
            self.scale(&mut rollout, steps).await?;
            if paused {
                self.clean_up(&rollout).await?;
            }
            return self.report(&rollout, Progress::Keep).await;
        }
        match Strategy::of(&rollout.deployment) {
            Strategy::Recreate => self.recreate(&mut rollout).await?,
            Strategy::RollingUpdate => self.roll(&mut rollout).await?,
        }
        self.report(&rollout, Progress::Estimate).await
    }
}

impl DeploymentController {
    async fn refuse_empty_selector(&self, deployment: &Deployment) -> Outcome {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        self.context
            .recorder
            .record_for(deployment, EventType::Warning, "SelectingAll", message);
        let mut status = deployment.status.clone().unwrap_or_default();
        if status.observed_generation.unwrap_or(0) < deployment.generation() {
            status.observed_generation = Some(deployment.generation());
            let changed = Deployment {
                status: Some(status),
                ..deployment.clone()
            };
            self.context.client.update_status(&changed).await?;
        }
        Ok(())
    }

    async fn roll(&self, rollout: &mut Rollout) -> Outcome {
        self.ensure_new(rollout).await?;
        let Some(new) = &rollout.new else {
            return Ok(());
        };
        let steps = plan::rolling(&rollout.deployment, new, &rollout.old)?;
        if steps.is_empty() && status::is_complete(&rollout.deployment) {
            return self.clean_up(rollout).await;
        }
        self.scale(rollout, steps).await
    }

    async fn recreate(&self, rollout: &mut Rollout) -> Outcome {
        let steps = plan::scale_all_down(&rollout.old);
        if !steps.is_empty() {
            return self.scale(rollout, steps).await;
        }
        if self.old_pods_run(rollout) {
            return Ok(());
        }
        self.ensure_new(rollout).await?;
        let Some(new) = &rollout.new else {
            return Ok(());
        };
        let steps = plan::scale_to(new, plan::wanted(&rollout.deployment));
        self.scale(rollout, steps).await?;
        if status::is_complete(&rollout.deployment) {
            self.clean_up(rollout).await?;
        }
        Ok(())
    }

    fn old_pods_run(&self, rollout: &Rollout) -> bool {
        rollout.old.iter().any(|set| {
            plan::actual(set) > 0
                || self
                    .pods
                    .by_owner(set.uid())
                    .iter()
                    .any(|p| is_controlled_by(p.as_ref(), set) && !is_terminal(p))
        })
    }

    async fn scale(&self, rollout: &mut Rollout, steps: Vec<Scale>) -> Outcome {
        for step in steps {
            let Some(set) = rollout
                .all()
                .into_iter()
                .find(|s| s.name() == step.name)
                .cloned()
            else {
                continue;
            };
            let from = plan::size(&set);
            let Some(changed) = revision::scaled(&rollout.deployment, &set, step.to) else {
                continue;
            };
            let updated = self.context.client.update(&changed).await?;
            if from != step.to {
                let direction = if from < step.to { "up" } else { "down" };
                let message = format!(
                    "Scaled {direction} replica set {} from {from} to {}",
                    set.name(),
                    step.to
                );
                self.event(
                    &rollout.deployment,
                    EventType::Normal,
                    "ScalingReplicaSet",
                    message,
                );
            }
            rollout.replace(updated);
        }
        Ok(())
    }

    /// Keeps annotations and minReadySeconds of an existing new set, and the deployment's revision, up to date.
    async fn sync_new(&self, rollout: &mut Rollout) -> Outcome {
        let Some(new) = &rollout.new else {
            return Ok(());
        };
        let next = revision::highest(&rollout.old) + 1;
        if let Some(changed) = revision::synced(&rollout.deployment, new, next) {
            rollout.new = Some(self.context.client.update(&changed).await?);
        }
        let Some(new) = &rollout.new else {
            return Ok(());
        };
        let found =
            Reporter::new(self.context.now()).found_new_set(&rollout.deployment, new.name());
        self.set_revision(&mut rollout.deployment, new).await?;
        if let Some(status) = found {
            rollout.deployment.status = Some(status);
            rollout.deployment = self
                .context
                .client
                .update_status(&rollout.deployment)
                .await?;
        }
        Ok(())
    }

    async fn set_revision(&self, deployment: &mut Deployment, new: &ReplicaSet) -> Outcome {
        let Some(revision) = new.annotation(revision::REVISION).map(str::to_owned) else {
            return Ok(());
        };
        if deployment.annotation(revision::REVISION) != Some(revision.as_str()) {
            let annotations = deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(revision::REVISION.into(), revision);
            *deployment = self.context.client.update(deployment).await?;
        }
        Ok(())
    }

    async fn ensure_new(&self, rollout: &mut Rollout) -> Outcome {
        if rollout.new.is_some() {
            return Ok(());
        }
        let set = revision::new_replica_set(&rollout.deployment, &rollout.old)?;
        let namespace = rollout.deployment.namespace().to_owned();
        let reporter = Reporter::new(self.context.now());
        let created = match self.context.client.create(Some(&namespace), &set).await {
            Ok(created) => created,
            Err(status) if is_already_exists(&status) => {
                return self.meet_existing(rollout, &set, status).await;
            }
            Err(status) if is_namespace_terminating(&status) => return Err(status.into()),
            Err(status) => {
                let message = format!(
                    "Failed to create new replica set \"{}\": {status}",
                    set.name()
                );
                if let Some(failed) = reporter.failed_create(&rollout.deployment, &message) {
                    let deployment = Deployment {
                        status: Some(failed),
                        ..rollout.deployment.clone()
                    };
                    // The failure to create is the bigger news; this report is repeated with the next attempt.
                    let _ = self.context.client.update_status(&deployment).await;
                }
                self.event(
                    &rollout.deployment,
                    EventType::Warning,
                    "ReplicaSetCreateError",
                    message,
                );
                return Err(status.into());
            }
        };
        if plan::size(&created) > 0 {
            let message = format!(
                "Scaled up replica set {} from 0 to {}",
                created.name(),
                plan::size(&created)
            );
            self.event(
                &rollout.deployment,
                EventType::Normal,
                "ScalingReplicaSet",
                message,
            );
        }
        self.set_revision(&mut rollout.deployment, &created).await?;
        if let Some(status) = reporter.created_new_set(&rollout.deployment, created.name()) {
            rollout.deployment.status = Some(status);
            rollout.deployment = self
                .context
                .client
                .update_status(&rollout.deployment)
                .await?;
        }
        rollout.new = Some(created);
        Ok(())
    }

    /// The name is taken: by our own set that the informer does not show yet, or by one of another template, whose hash
    /// collides; then the next attempt hashes with a higher collision count.
    async fn meet_existing(
        &self,
        rollout: &mut Rollout,
        set: &ReplicaSet,
        refusal: api_machinery::Status,
    ) -> Outcome {
        let namespace = Some(rollout.deployment.namespace());
        let existing: ReplicaSet = match self.context.client.get(namespace, set.name()).await {
            Err(status) if is_not_found(&status) => {
                return Err(Error::NotReady(refusal.to_string()));
            }
            answer => answer?,
        };
        if is_controlled_by(&existing, &rollout.deployment)
            && revision::is_of(&existing, &rollout.deployment)
        {
            self.set_revision(&mut rollout.deployment, &existing)
                .await?;
            rollout.new = Some(existing);
            return Ok(());
        }
        let mut deployment = rollout.deployment.clone();
        let status = deployment.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.context.client.update_status(&deployment).await?;
        Err(Error::NotReady(refusal.to_string()))
    }

    async fn clean_up(&self, rollout: &Rollout) -> Outcome {
        for set in plan::surplus_history(&rollout.deployment, &rollout.old) {
            let namespace = Some(set.namespace());
            match self
                .context
                .client
                .delete::<ReplicaSet>(namespace, set.name(), &Default::default())
                .await
            {
                Err(status) if !is_not_found(&status) => return Err(status.into()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn report(&self, rollout: &Rollout, progress: Progress) -> Outcome {
        let now = self.context.now();
        let deployment = &rollout.deployment;
        let status =
            Reporter::new(now).status(deployment, rollout.new.as_ref(), &rollout.all(), progress);
        if deployment.status.as_ref() != Some(&status) {
            let changed = Deployment {
                status: Some(status),
                ..deployment.clone()
            };
            self.context.client.update_status(&changed).await?;
        } else if let Some(wait) = status::until_deadline(deployment, &status, now) {
            self.queue.add_after(ObjectKey::of(deployment), wait);
        }
        Ok(())
    }

    fn event<K: Kind>(&self, object: &K, event_type: EventType, reason: &str, message: String) {
        self.context
            .recorder
            .record_for(object, event_type, reason, message);
    }
}
