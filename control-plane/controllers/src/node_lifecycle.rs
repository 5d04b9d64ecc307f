//! Node lifecycle: notices nodes that fell silent, and marks what is wrong with a node in conditions and taints.
//!
//! A node lives while its status or its Lease in `kube-node-lease` is renewed. The clock that counts is this process's own:
//! what matters is when a renewal was seen, not what the node's clock says. Taints are decided in `taints`, silence in
//! `health`; pods are evicted by the taint eviction controller.

mod health;
mod taints;

use std::collections::HashMap;
use std::sync::Arc;

use api_client::{Change, EventType, Informer, ObjectKey, is_conflict, is_not_found};
use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::context::{Context, Controller, Queue, until};
use crate::error::Outcome;
use crate::support::{Meta, is_ready, node_name};
use health::{Heartbeat, NodeHealth, ready_status, silence};
use taints::{Eviction, with_taints};

const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Index: the node of every pod that has one.
pub(crate) const BY_NODE: &str = "by node";
/// Between two nodes that become unreachable in the same zone: a failure of the control plane's own network must not
/// empty all nodes at once.
const EVICTION_PAUSE: SignedDuration = SignedDuration::from_secs(10);

pub(crate) fn pods_by_node(context: &Context) -> Informer<Pod> {
    let pods = context.informer::<Pod>();
    pods.add_index(BY_NODE, |pod| {
        Some(node_name(pod).to_owned())
            .filter(|n| !n.is_empty())
            .into_iter()
            .collect()
    });
    pods
}

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let nodes = context.informer::<Node>();
    let keys = queue.clone();
    nodes.on_change(move |change| {
        if !matches!(change, Change::Applied { old: Some(old), new } if is_alike(old, new)) {
            keys.add(ObjectKey::of(change.object().as_ref()));
        }
    });
    Arc::new(NodeLifecycle {
        pods: pods_by_node(context),
        context: context.clone(),
        queue: queue.clone(),
        nodes,
        leases: context.informer(),
        known: Mutex::default(),
        next_eviction: Mutex::default(),
    })
}

/// Heartbeats alone do not matter at once: the timer of the node looks at them.
fn is_alike(old: &Node, new: &Node) -> bool {
    let conditions = |node: &Node| -> Vec<(String, String)> {
        let all = node
            .status
            .iter()
            .filter_map(|s| s.conditions.as_ref())
            .flatten();
        all.map(|c| (c.type_.clone(), c.status.clone())).collect()
    };
    old.spec == new.spec
        && conditions(old) == conditions(new)
        && old.is_deleting() == new.is_deleting()
}

struct NodeLifecycle {
    context: Context,
    queue: Queue,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    known: Mutex<HashMap<String, NodeHealth>>,
    /// When the next node of a zone may be marked for eviction.
    next_eviction: Mutex<HashMap<String, Timestamp>>,
}

#[async_trait]
impl Controller for NodeLifecycle {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(node) = self.nodes.get(key) else {
            self.known.lock().remove(&key.name);
            return Ok(());
        };
        let now = self.context.now();
        let (deadline, was_ready) = self.observe(&node, now);
        let mut node = (*node).clone();
        if now >= deadline
            && let Some(status) = silence(&node, now)
        {
            node.status = Some(status);
            node = match self.context.client.update_status(&node).await {
                Err(status) if is_not_found(&status) => return Ok(()),
                answer => answer?,
            };
        }
        let ready = ready_status(&node);
        if was_ready != Some(false) && ready != Some("True") && ready.is_some() {
            self.tell_not_ready(&node, was_ready).await?;
        }
        self.mark(key, &node, now).await?;
        if let Some(known) = self.known.lock().get_mut(&key.name) {
            known.was_ready = Some(ready == Some("True"));
        }
        self.arm(key, deadline.max(now + SignedDuration::from_secs(1)), now);
        Ok(())
    }
}

impl NodeLifecycle {
    /// Takes note of the node's signs of life. Answers until when it may be silent, and whether it was ready before.
    fn observe(&self, node: &Arc<Node>, now: Timestamp) -> (Timestamp, Option<bool>) {
        let lease = self
            .leases
            .get(&ObjectKey::new(LEASE_NAMESPACE, node.name()));
        let heartbeat = Heartbeat::of(node, lease.as_deref());
        let mut known = self.known.lock();
        let first = !known.contains_key(node.name());
        let health = known
            .entry(node.name().to_owned())
            .or_insert_with(|| NodeHealth::new(node, now));
        health.observe(node, heartbeat, now);
        if first {
            let message = format!(
                "Node {0} event: Registered Node {0} in Controller",
                node.name()
            );
            self.context
                .recorder
                .record(node, EventType::Normal, "RegisteredNode", message);
        }
        let options = &self.context.options;
        let grace = if ready_status(node).is_none() {
            options.node_startup_grace_period
        } else {
            options.node_monitor_grace_period
        };
        let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        (health.last_sign + grace, health.was_ready)
    }

    /// One timer per node: it looks again when the node's silence would be too long.
    fn arm(&self, key: &ObjectKey, at: Timestamp, now: Timestamp) {
        let mut known = self.known.lock();
        let Some(health) = known.get_mut(&key.name) else {
            return;
        };
        if health.timer.is_none_or(|timer| timer <= now) {
            health.timer = Some(at);
            self.queue.add_after(key.clone(), until(now, at));
        }
    }

    async fn tell_not_ready(&self, node: &Node, was_ready: Option<bool>) -> Outcome {
        if was_ready == Some(true) {
            let message = format!("Node {} status is now: NodeNotReady", node.name());
            self.context
                .recorder
                .record_for(node, EventType::Normal, "NodeNotReady", message);
        }
        let pods = self.pods.by_index(BY_NODE, node.name());
        let answers = join_all(
            pods.iter()
                .filter(|pod| is_ready(pod))
                .map(|pod| self.mark_not_ready(pod)),
        );
        answers.await.into_iter().collect()
    }

    /// A pod on a node that cannot be asked must not be sent traffic.
    async fn mark_not_ready(&self, pod: &Arc<Pod>) -> Outcome {
        let mut changed = (**pod).clone();
        let now = self.context.now();
        let conditions = changed
            .status
            .iter_mut()
            .filter_map(|s| s.conditions.as_mut())
            .flatten();
        for condition in conditions.filter(|c| c.type_ == "Ready") {
            condition.status = "False".into();
            condition.last_transition_time = Some(Time(now));
        }
        match self.context.client.update_status(&changed).await {
            Ok(_) => self.context.recorder.record(
                pod,
                EventType::Warning,
                "NodeNotReady",
                "Node is not ready",
            ),
            Err(status) if is_not_found(&status) || is_conflict(&status) => {}
            Err(status) => return Err(status.into()),
        }
        Ok(())
    }

    async fn mark(&self, key: &ObjectKey, node: &Node, now: Timestamp) -> Outcome {
        let eviction = self.eviction(node, now);
        if let Eviction::Later(at) = eviction {
            self.queue.add_after(key.clone(), until(now, at));
        }
        let Some(changed) = with_taints(node, eviction, now) else {
            return Ok(());
        };
        match self.context.client.update(&changed).await {
            Err(status) if !is_not_found(&status) => Err(status.into()),
            _ => Ok(()),
        }
    }

    /// Whether pods may be driven off the node, given how its neighbours are.
    fn eviction(&self, node: &Node, now: Timestamp) -> Eviction {
        if ready_status(node) == Some("True") || taints::is_evicting(node) {
            return Eviction::Now.unless_all_are_down(&self.nodes.list());
        }
        let nodes = self.nodes.list();
        let eviction = Eviction::decide(node, &nodes);
        if eviction != Eviction::Now {
            return eviction;
        }
        let mut next = self.next_eviction.lock();
        let allowed = next.entry(taints::zone(node)).or_insert(now);
        if *allowed > now {
            return Eviction::Later(*allowed);
        }
        *allowed = now + EVICTION_PAUSE;
        Eviction::Now
    }
}
