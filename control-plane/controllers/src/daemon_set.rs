//! DaemonSet: one pod on every node that may run it.
//!
//! The scheduler places the pods; each is bound to its node by an affinity for the node's name. Which pods to make and to
//! remove is decided in `plan`, the replacement of old pods in `update`, whether a node takes part in `placement`.

mod placement;
mod plan;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_client::{Change, EventType, Informer, ObjectKey, is_not_found};
use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::{Error, Outcome};
use crate::support::history::{
    Current, REVISION_HASH, ensure_current, revision_hash, revisions_of, truncate_history,
};
use crate::support::{
    Backoff, Expectations, Meta, PodControl, Selector, claim_objects, is_namespace_terminating,
    next_availability, owned_and_orphans, owner_reference, pod_from_template, route_pods,
    slow_start,
};
use placement::{add_tolerations, pin_to_node, placement, target_node};
use plan::{NodePods, Plan};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let sets = context.informer::<DaemonSet>();
    let nodes = context.informer::<Node>();
    let expectations = Arc::new(Expectations::default());
    enqueue_on_change(&sets, queue);
    route_pods::<DaemonSet>(context, queue, expectations.clone(), selector);
    let (all, keys) = (sets.clone(), queue.clone());
    nodes.on_change(move |change| {
        for set in all.list() {
            let concerned = match change {
                Change::Applied {
                    old: Some(old),
                    new,
                } => placement(&set, old) != placement(&set, new),
                Change::Applied { .. } | Change::Deleted(_) => true,
            };
            if concerned {
                keys.add(ObjectKey::of(set.as_ref()));
            }
        }
    });
    Arc::new(DaemonSetController {
        pod_control: PodControl::new(context),
        context: context.clone(),
        queue: queue.clone(),
        sets,
        nodes,
        pods: context.informer(),
        revisions: context.informer(),
        expectations,
        failed_pods: Backoff::new(Duration::from_secs(1), Duration::from_secs(15 * 60)),
    })
}

fn selector(set: &DaemonSet) -> Outcome<Selector> {
    Selector::new(set.spec.as_ref().map(|s| &s.selector))
}

struct DaemonSetController {
    context: Context,
    queue: Queue,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    revisions: Informer<ControllerRevision>,
    expectations: Arc<Expectations>,
    pod_control: PodControl,
    failed_pods: Backoff<(String, String)>,
}

#[async_trait]
impl Controller for DaemonSetController {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(());
        };
        let selector = selector(&set)?;
        if selector.is_empty() {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            self.context
                .recorder
                .record(&set, EventType::Warning, "SelectingAll", message);
            return Ok(());
        }
        if set.is_deleting() {
            return Ok(());
        }
        let history = revisions_of(&self.revisions, set.as_ref());
        let current = self.current_revision(&set, &history).await?;
        let hash = revision_hash(&current).to_owned();
        if self.expectations.satisfied(key) {
            let by_node = self.pods_by_node(&set, &selector).await?;
            self.manage(key, &set, &by_node, &hash).await?;
        }
        if self.expectations.satisfied(key) && update::is_rolling(&set) {
            let by_node = self.pods_by_node(&set, &selector).await?;
            let plan = update::plan(&set, &by_node, &hash, self.context.now())?;
            self.carry_out(key, &set, plan, &hash).await?;
        }
        let by_node = self.pods_by_node(&set, &selector).await?;
        self.clean_up_history(&set, &history, &current, &by_node)
            .await?;
        self.report(key, &set, &by_node, &hash).await
    }
}

impl DaemonSetController {
    async fn current_revision(
        &self,
        set: &DaemonSet,
        history: &[Arc<ControllerRevision>],
    ) -> Outcome<Arc<ControllerRevision>> {
        let template = set
            .spec
            .as_ref()
            .map(|s| s.template.clone())
            .unwrap_or_default();
        let collision_count = set.status.as_ref().and_then(|s| s.collision_count);
        match ensure_current(
            &self.context.client,
            set,
            &template,
            collision_count,
            history,
        )
        .await?
        {
            Current::Revision(revision) => Ok(revision),
            Current::Collision => {
                let mut set = set.clone();
                let status = set.status.get_or_insert_default();
                status.collision_count = Some(collision_count.unwrap_or(0) + 1);
                self.context.client.update_status(&set).await?;
                Err(Error::NotReady(format!(
                    "the hash of {}'s template collides",
                    set.name()
                )))
            }
        }
    }

    /// The set's pods by the node that they are on or meant for, and every node with its verdict.
    async fn pods_by_node(
        &self,
        set: &DaemonSet,
        selector: &Selector,
    ) -> Outcome<BTreeMap<String, NodePods>> {
        let candidates = owned_and_orphans(&self.pods, set);
        let pods = claim_objects(&self.context.client, set, selector, candidates, None).await?;
        let mut by_node: BTreeMap<String, NodePods> = BTreeMap::new();
        for node in self.nodes.list() {
            let entry = NodePods {
                placement: Some(placement(set, &node)),
                pods: Vec::new(),
            };
            by_node.insert(node.name().to_owned(), entry);
        }
        for pod in pods {
            let Some(name) = target_node(&pod) else {
                continue;
            };
            by_node.entry(name.to_owned()).or_default().pods.push(pod);
        }
        Ok(by_node)
    }

    async fn manage(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        by_node: &BTreeMap<String, NodePods>,
        hash: &str,
    ) -> Outcome {
        let mut plan = plan::plan(by_node, update::allows_surge(set), hash);
        for (node, pod) in std::mem::take(&mut plan.failed) {
            // Kills and recreates in a tight loop would keep the node busy with nothing else.
            if let Some(wait) = self.failed_pods.next((set.uid().to_owned(), node.clone())) {
                self.queue.add_after(key.clone(), wait);
                continue;
            }
            let (reason, kind) = if crate::support::phase(&pod) == "Failed" {
                ("FailedDaemonPod", "failed")
            } else {
                ("SucceededDaemonPod", "succeeded")
            };
            let (namespace, name) = (pod.namespace(), pod.name());
            let action = if kind == "failed" { "kill" } else { "delete" };
            let message = format!(
                "Found {kind} daemon pod {namespace}/{name} on node {node}, will try to {action} it"
            );
            let event_type = if kind == "failed" {
                EventType::Warning
            } else {
                EventType::Normal
            };
            self.context
                .recorder
                .record_for(set, event_type, reason, message);
            plan.delete.push(pod);
        }
        self.carry_out(key, set, plan, hash).await
    }

    async fn carry_out(&self, key: &ObjectKey, set: &DaemonSet, plan: Plan, hash: &str) -> Outcome {
        let Plan { create, delete, .. } = plan;
        self.expectations.expect_creations(key, create.len());
        self.expectations
            .expect_deletions(key, delete.iter().map(|p| p.uid().to_owned()));
        let (created, failure) = slow_start(create.len(), |index| {
            self.create(key, set, &create[index], hash)
        })
        .await;
        for _ in created..create.len() {
            self.expectations.creation_observed(key);
        }
        let answers = join_all(delete.iter().map(|pod| async {
            let answer = self.pod_control.delete(set, pod).await;
            if answer.is_err() {
                self.expectations.deletion_observed(key, pod.uid());
            }
            answer
        }));
        let refused = answers
            .await
            .into_iter()
            .filter_map(Result::err)
            .find(|status| !is_not_found(status));
        failure
            .or(refused)
            .map_or(Ok(()), |status| Err(status.into()))
    }

    async fn create(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        node: &str,
        hash: &str,
    ) -> Result<(), api_machinery::Status> {
        let Some(spec) = &set.spec else { return Ok(()) };
        let mut pod = pod_from_template(&spec.template, set.namespace(), owner_reference(set));
        pod.metadata.generate_name = Some(format!("{}-", set.name()));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION_HASH.into(), hash.into());
        if let Some(generation) = set.annotation(TEMPLATE_GENERATION) {
            labels.insert("pod-template-generation".into(), generation.into());
        }
        let spec = pod.spec.get_or_insert_default();
        add_tolerations(spec);
        pin_to_node(spec, node);
        match self.pod_control.create(set, &pod).await {
            Err(status) if is_namespace_terminating(&status) => {
                self.expectations.creation_observed(key);
                Ok(())
            }
            answer => answer.map(drop),
        }
    }

    async fn clean_up_history(
        &self,
        set: &DaemonSet,
        history: &[Arc<ControllerRevision>],
        current: &ControllerRevision,
        by_node: &BTreeMap<String, NodePods>,
    ) -> Outcome {
        let limit = set
            .spec
            .as_ref()
            .and_then(|s| s.revision_history_limit)
            .unwrap_or(10);
        let used = |revision: &ControllerRevision| {
            let hash = revision_hash(revision);
            let mut pods = by_node.values().flat_map(|n| &n.pods);
            revision.uid() == current.uid()
                || pods.any(|pod| {
                    pod.labels()
                        .get(REVISION_HASH)
                        .is_some_and(|label| label == hash)
                })
        };
        truncate_history(&self.context.client, history, limit, used).await
    }

    async fn report(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        by_node: &BTreeMap<String, NodePods>,
        hash: &str,
    ) -> Outcome {
        let now = self.context.now();
        let status = plan::status(set, by_node, hash, now);
        if set.status.as_ref() != Some(&status) {
            let changed = DaemonSet {
                status: Some(status.clone()),
                ..set.clone()
            };
            self.context.client.update_status(&changed).await?;
        }
        let min_ready_seconds = plan::min_ready_seconds(set);
        if Some(status.number_ready) != Some(status.number_available.unwrap_or(0)) {
            let pods = by_node.values().flat_map(|n| &n.pods);
            if let Some(wait) = next_availability(pods, min_ready_seconds, now) {
                self.queue.add_after(key.clone(), wait);
            }
        }
        Ok(())
    }
}
