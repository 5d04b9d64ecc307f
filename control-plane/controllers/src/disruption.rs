//! PodDisruptionBudgets: how many more pods may be taken down just now.
//!
//! The eviction API reads the answer from the budget's status, and takes one off for each eviction it grants; the next
//! change of a pod brings the numbers up to date again.

mod budget;

use std::collections::BTreeMap;
use std::sync::Arc;

use api_client::{Change, EventType, Informer, Kind, ObjectKey, Verb, is_not_found};
use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::context::{Context, Controller, Queue, enqueue_on_change, until};
use crate::error::{Error, Outcome};
use crate::resources::discover;
use crate::support::{Meta, Selector, controller_of, resolve};
use budget::Expected;

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let budgets = context.informer::<PodDisruptionBudget>();
    enqueue_on_change(&budgets, queue);
    let (known, keys) = (budgets.clone(), queue.clone());
    context.informer::<Pod>().on_change(move |change| {
        let pod = change.object();
        let former = match change {
            Change::Applied { old, .. } => old.clone(),
            Change::Deleted(_) => None,
        };
        for budget in known.list_namespace(pod.namespace()) {
            let Ok(selector) = selector(&budget) else {
                continue;
            };
            if selector.matches(pod.labels())
                || former
                    .as_ref()
                    .is_some_and(|old| selector.matches(old.labels()))
            {
                keys.add(ObjectKey::of(budget.as_ref()));
            }
        }
    });
    on_scale::<ReplicaSet>(context, queue, &budgets);
    on_scale::<Deployment>(context, queue, &budgets);
    on_scale::<StatefulSet>(context, queue, &budgets);
    on_scale::<ReplicationController>(context, queue, &budgets);
    Arc::new(DisruptionController {
        context: context.clone(),
        queue: queue.clone(),
        budgets,
        pods: context.informer(),
    })
}

/// A changed generation may be a changed number of replicas: the budgets of the namespace are looked at again.
fn on_scale<K: Kind>(context: &Context, queue: &Queue, budgets: &Informer<PodDisruptionBudget>) {
    let (known, keys) = (budgets.clone(), queue.clone());
    context.informer::<K>().on_change(move |change| {
        if let Change::Applied {
            old: Some(old),
            new,
        } = change
            && Meta::generation(old.as_ref()) != Meta::generation(new.as_ref())
        {
            let budgets = known.list_namespace(Meta::namespace(new.as_ref()));
            budgets
                .iter()
                .for_each(|budget| keys.add(ObjectKey::of(budget.as_ref())));
        }
    });
}

fn selector(budget: &PodDisruptionBudget) -> Outcome<Selector> {
    Selector::new(budget.spec.as_ref().and_then(|s| s.selector.as_ref()))
}

struct DisruptionController {
    context: Context,
    queue: Queue,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
}

#[async_trait]
impl Controller for DisruptionController {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(budget) = self.budgets.get(key) else {
            return Ok(());
        };
        match self.update(key, &budget).await {
            // A budget that cannot be worked out allows nothing, and says why.
            Err(error @ (Error::Invalid(_) | Error::NotReady(_))) => {
                let status = budget::failed(&budget, &error.to_string(), self.context.now());
                self.write(&budget, status).await
            }
            result => result,
        }
    }
}

impl DisruptionController {
    async fn update(&self, key: &ObjectKey, budget: &Arc<PodDisruptionBudget>) -> Outcome {
        let selector = selector(budget)?;
        let mut pods = self.pods.list_namespace(&key.namespace);
        pods.retain(|pod| selector.matches(pod.labels()));
        if pods.is_empty() {
            self.context.recorder.record(
                budget,
                EventType::Normal,
                "NoPods",
                "No matching pods found",
            );
        }
        let expected = self.expected(budget, &pods).await.inspect_err(|error| {
            let message = format!("Failed to calculate the number of expected pods: {error}");
            self.context.recorder.record(
                budget,
                EventType::Warning,
                "CalculateExpectedPodCountFailed",
                message,
            );
        })?;
        if !expected.unmanaged.is_empty() {
            let names: Vec<String> = expected
                .unmanaged
                .iter()
                .map(|name| format!("\"{name}\""))
                .collect();
            let message = format!(
                "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the \
                 PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods \
                 please set \".spec.minAvailable\" field of the PDB to an integer value. Unmanaged pods: {}.",
                names.join(", ")
            );
            self.context
                .recorder
                .record(budget, EventType::Warning, "UnmanagedPods", message);
        }
        let now = self.context.now();
        let (disrupted, recheck) = budget::disrupted_pods(budget, &pods, now);
        let status = budget::status(budget, &pods, &expected, disrupted, now);
        if let Some(at) = recheck {
            self.queue.add_after(key.clone(), until(now, at));
        }
        self.write(budget, status).await
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus,
    ) -> Outcome {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let changed = PodDisruptionBudget {
            status: Some(status),
            ..budget.clone()
        };
        self.context.client.update_status(&changed).await?;
        Ok(())
    }

    /// How many pods there should be, and how many of them healthy.
    async fn expected(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Outcome<Expected> {
        if !budget::needs_scale(budget) {
            return budget::expected(budget, crate::support::count(pods.len()), Vec::new());
        }
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        let mut unmanaged = Vec::new();
        for pod in pods {
            let Some(owner) = controller_of(pod.as_ref()) else {
                unmanaged.push(pod.name().to_owned());
                continue;
            };
            if scales.contains_key(&owner.uid) {
                continue;
            }
            let (uid, scale) = self.scale(pod.namespace(), owner).await?;
            // All sets of one deployment count once, but each is remembered.
            scales.insert(uid.clone(), scale);
            if uid != owner.uid {
                scales.insert(owner.uid.clone(), 0);
            }
        }
        budget::expected(budget, scales.values().sum(), unmanaged)
    }

    /// The uid of what decides about the number of an owner's pods, and that number.
    async fn scale(&self, namespace: &str, owner: &OwnerReference) -> Outcome<(String, i32)> {
        let sets = self.context.informer::<ReplicaSet>();
        if let Some(set) = resolve(&sets, namespace, owner) {
            let deployments = self.context.informer::<Deployment>();
            let deployment =
                controller_of(set.as_ref()).and_then(|o| resolve(&deployments, namespace, o));
            return Ok(match deployment {
                Some(d) => (
                    d.uid().to_owned(),
                    d.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
                ),
                None => (
                    set.uid().to_owned(),
                    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
                ),
            });
        }
        if let Some(set) = resolve(&self.context.informer::<StatefulSet>(), namespace, owner) {
            return Ok((
                set.uid().to_owned(),
                set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
            ));
        }
        let controllers = self.context.informer::<ReplicationController>();
        if let Some(controller) = resolve(&controllers, namespace, owner) {
            let replicas = controller
                .spec
                .as_ref()
                .and_then(|s| s.replicas)
                .unwrap_or(1);
            return Ok((controller.uid().to_owned(), replicas));
        }
        self.scale_of_any(namespace, owner).await
    }

    /// Any other kind is asked for its scale subresource.
    async fn scale_of_any(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Outcome<(String, i32)> {
        let group = owner
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let found = discover(&self.context.client).await?;
        let unsupported = || {
            Error::Invalid(format!(
                "{} {} does not implement the scale subresource",
                owner.kind, owner.name
            ))
        };
        let resource = found
            .resources
            .into_iter()
            .find(|r| r.group == group && r.kind == owner.kind);
        let resource = resource.ok_or_else(unsupported)?;
        let path = format!("{}/scale", resource.path(Some(namespace), &owner.name));
        match self
            .context
            .client
            .raw(Verb::Get, path, "application/json", Bytes::new())
            .await
        {
            Ok(body) => {
                let scale: Scale = serde_json::from_slice(&body).map_err(|_| unsupported())?;
                Ok((
                    owner.uid.clone(),
                    scale.spec.and_then(|s| s.replicas).unwrap_or(0),
                ))
            }
            Err(status) if is_not_found(&status) => Err(unsupported()),
            Err(status) => Err(status.into()),
        }
    }
}
