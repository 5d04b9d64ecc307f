//! The scheduler's effects: informers feed cluster and queue, one loop decides, bindings go out beside it.
//!
//! A pod is counted on its node from the moment of the decision, so that the next decision does not wait for the
//! binding; a binding that fails takes it back.

use std::sync::Arc;

use api_client::{
    Backend, Change, Client, EventRecorder, EventType, Informer, Informers, ObjectKey, Patch, User,
};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cache::Cluster;
use crate::framework::{FitError, Wakes, schedule};
use crate::pod_info::PodInfo;
use crate::queue::{Queue, Waiting};

/// The name under which pods ask for this scheduler.
const SCHEDULER_NAME: &str = "default-scheduler";
/// Bindings under way at once.
const BINDINGS_LIMIT: usize = 64;

#[derive(Default)]
struct State {
    cluster: Cluster,
    queue: Queue,
    /// Rotates the order in which nodes are looked at.
    start: usize,
}

struct Shared {
    state: Mutex<State>,
    /// Something may be ready in the queue.
    ready: Notify,
    client: Client,
    recorder: EventRecorder,
    bindings: Arc<Semaphore>,
    pods: Informer<Pod>,
}

/// Runs the scheduler until `shutdown` is cancelled. May be run again later in the same process, with informers of that
/// term of leadership. Its writes carry `fence`, so that a scheduler that has lost its leadership without knowing cannot
/// bind anything.
pub async fn run(
    backend: Arc<dyn Backend>,
    informers: Informers,
    fence: Option<Bytes>,
    shutdown: CancellationToken,
) {
    let client = Client::new(backend, User::component("system:kube-scheduler")).fenced(fence);
    let recorder = EventRecorder::start(client.clone(), SCHEDULER_NAME);
    let nodes = informers.get::<Node>();
    let pods = informers.get::<Pod>();
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        ready: Notify::new(),
        client,
        recorder,
        bindings: Arc::new(Semaphore::new(BINDINGS_LIMIT)),
        pods: pods.clone(),
    });
    nodes.on_change({
        let shared = shared.clone();
        move |change| shared.node_changed(change)
    });
    pods.on_change({
        let shared = shared.clone();
        move |change| shared.pod_changed(change)
    });
    let work = async {
        nodes.wait_synced().await;
        pods.wait_synced().await;
        tracing::info!("scheduler started");
        shared.schedule_forever().await;
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

/// Whether two forms of a node differ in something that a plugin looks at.
fn node_matters(old: &Node, new: &Node) -> bool {
    let taints = |n: &Node| n.spec.as_ref().map(|s| (s.taints.clone(), s.unschedulable));
    let allocatable = |n: &Node| n.status.as_ref().map(|s| s.allocatable.clone());
    old.metadata.labels != new.metadata.labels
        || taints(old) != taints(new)
        || allocatable(old) != allocatable(new)
}

/// The pod has ended: it takes nothing from its node any more.
fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .filter(|n| !n.is_empty())
}

fn is_ours(pod: &Pod) -> bool {
    let name = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref());
    name.is_none_or(|n| n == SCHEDULER_NAME)
}

impl Shared {
    fn node_changed(&self, change: &Change<Node>) {
        let mut state = self.state.lock();
        match change {
            Change::Applied { old, new } => {
                state.cluster.set_node(new.clone());
                if old.as_ref().is_none_or(|old| node_matters(old, new)) {
                    state.queue.wake(Wakes::NODE, Instant::now());
                    self.ready.notify_one();
                }
            }
            Change::Deleted(node) => state
                .cluster
                .remove_node(node.metadata.name.as_deref().unwrap_or_default()),
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        match change {
            Change::Deleted(pod) => self.pod_gone(&ObjectKey::of(pod.as_ref())),
            Change::Applied { new, .. } if is_terminal(new) => {
                self.pod_gone(&ObjectKey::of(new.as_ref()))
            }
            Change::Applied { old, new } => match node_of(new) {
                Some(node) => self.pod_placed(old.as_deref(), new, node),
                None => self.pod_waits(old.as_deref(), new),
            },
        }
    }

    fn pod_gone(&self, key: &ObjectKey) {
        let mut state = self.state.lock();
        state.queue.remove(key);
        if state.cluster.remove_pod(key) {
            state.queue.wake(Wakes::POD_GONE, Instant::now());
            self.ready.notify_one();
        }
    }

    fn pod_placed(&self, old: Option<&Pod>, new: &Arc<Pod>, node: &str) {
        // Most changes of a running pod are of its status and concern nobody here.
        let same = old.is_some_and(|old| {
            old.spec == new.spec
                && old.metadata.labels == new.metadata.labels
                && old.metadata.uid == new.metadata.uid
                && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        });
        if same {
            return;
        }
        let info = Arc::new(PodInfo::new(new.clone()));
        let mut state = self.state.lock();
        state.queue.remove(&info.key);
        state.cluster.place(info, node);
        state.queue.wake(Wakes::POD_PLACED, Instant::now());
        self.ready.notify_one();
    }

    fn pod_waits(&self, old: Option<&Pod>, new: &Arc<Pod>) {
        if !is_ours(new) {
            return;
        }
        let info = Arc::new(PodInfo::new(new.clone()));
        let mut state = self.state.lock();
        if new.metadata.deletion_timestamp.is_some() {
            return state.queue.remove(&info.key);
        }
        let only_status = old.is_some_and(|old| {
            old.spec == new.spec
                && old.metadata.labels == new.metadata.labels
                && old.metadata.uid == new.metadata.uid
        });
        if only_status {
            // Not there means: taken out for a try right now. The try ends with the form that it has.
            state.queue.refresh(info);
        } else {
            state.queue.add(info, Instant::now());
            self.ready.notify_one();
        }
    }

    async fn schedule_forever(self: Arc<Self>) {
        loop {
            let ready = self.ready.notified();
            let permit = self
                .bindings
                .clone()
                .acquire_owned()
                .await
                .expect("never closed");
            let (decided, deadline) = {
                let mut state = self.state.lock();
                (state.decide(Instant::now()), state.queue.next_deadline())
            };
            match decided {
                Some((waiting, Ok(node))) => {
                    let shared = self.clone();
                    tokio::spawn(async move {
                        shared.bind(waiting, &node).await;
                        drop(permit);
                    });
                }
                Some((waiting, Err(error))) => {
                    let shared = self.clone();
                    tokio::spawn(async move {
                        shared.report_unschedulable(waiting, &error).await;
                        drop(permit);
                    });
                }
                None => match deadline {
                    None => ready.await,
                    Some(at) => tokio::select! { () = ready => {}, () = sleep_until(at) => {} },
                },
            }
        }
    }

    /// Whether the pod still exists without a node. Asked under the state's lock: a deletion that is not seen here yet
    /// takes the pod out of the queue afterwards.
    fn still_waits(&self, pod: &PodInfo) -> bool {
        let now = self.pods.get(&pod.key);
        now.is_some_and(|now| {
            now.metadata.uid.as_deref() == Some(&pod.uid) && node_of(&now).is_none()
        })
    }

    async fn bind(&self, waiting: Waiting, node: &str) {
        let pod = &waiting.pod;
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let answer = self
            .client
            .create_subresource::<Pod>(pod.key.namespace(), &pod.key.name, "binding", &binding)
            .await;
        match answer {
            Ok(_) => {
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.recorder
                    .record(&pod.pod, EventType::Normal, "Scheduled", message);
            }
            Err(status) => {
                tracing::debug!(pod = %pod.key, node, %status, "binding failed");
                let mut state = self.state.lock();
                state.cluster.remove_pod(&pod.key);
                // Deleted or bound by someone else: the informer tells, or has told already.
                if !status.is_not_found() && !status.is_conflict() && self.still_waits(pod) {
                    state.queue.back_off(waiting, Instant::now());
                }
                state.queue.wake(Wakes::POD_GONE, Instant::now());
                self.ready.notify_one();
            }
        }
    }

    async fn report_unschedulable(&self, waiting: Waiting, error: &FitError) {
        let message = error.to_string();
        let pod = waiting.pod.clone();
        {
            let mut state = self.state.lock();
            if !self.still_waits(&pod) {
                return;
            }
            state
                .queue
                .unschedulable(waiting, error.wakes, Instant::now());
            self.ready.notify_one();
        }
        tracing::debug!(pod = %pod.key, refused_by = ?error.refused_by, "{message}");
        self.recorder.record(
            &pod.pod,
            EventType::Warning,
            "FailedScheduling",
            message.clone(),
        );
        let conditions = pod
            .pod
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_deref())
            .unwrap_or_default();
        let known = conditions.iter().any(|c| {
            c.type_ == "PodScheduled"
                && c.status == "False"
                && c.message.as_deref() == Some(message.as_str())
        });
        if known {
            return;
        }
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let answer = self
            .client
            .patch::<Pod>(pod.key.namespace(), &pod.key.name, "status", &patch)
            .await;
        if let Err(status) = answer
            && !status.is_not_found()
        {
            tracing::debug!(pod = %pod.key, %status, "condition not written");
        }
    }
}

impl State {
    /// Takes the next pod and decides; a placed pod is counted on its node at once.
    fn decide(&mut self, now: Instant) -> Option<(Waiting, Result<String, FitError>)> {
        let waiting = self.queue.pop(now)?;
        let decision = schedule(&waiting.pod, &self.cluster, self.start).map(|(node, next)| {
            self.start = next;
            self.cluster.place(waiting.pod.clone(), &node);
            node
        });
        Some((waiting, decision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn node(name: &str, cpu: &str, extra: Value) -> Arc<Node> {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}},
        });
        json_patch::merge(&mut node, &extra);
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn pod(name: &str, spec: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]},
        });
        json_patch::merge(&mut pod, &json!({"spec": spec}));
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    /// Places pods one after the other; answers nodes, or the message.
    fn place(nodes: &[Arc<Node>], specs: &[Value]) -> Vec<String> {
        let mut state = State::default();
        nodes.iter().for_each(|n| state.cluster.set_node(n.clone()));
        let now = Instant::now();
        let answers = specs.iter().enumerate().map(|(i, spec)| {
            state.queue.add(
                Arc::new(PodInfo::new(pod(&format!("p{i}"), spec.clone()))),
                now,
            );
            match state.decide(now).unwrap().1 {
                Ok(node) => node,
                Err(error) => error.to_string(),
            }
        });
        answers.collect()
    }

    #[test]
    fn pods_go_where_there_is_room_until_there_is_none() {
        let nodes = [node("a", "1", json!({})), node("b", "500m", json!({}))];
        let mut placed = place(&nodes, &[json!({}), json!({}), json!({}), json!({})]);
        let last = placed.pop().unwrap();
        placed.sort();
        assert_eq!(placed, ["a", "a", "b"]);
        assert_eq!(last, "0/2 nodes are available: 2 Insufficient cpu.");
    }

    #[test]
    fn each_reason_is_counted() {
        let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let nodes = [
            node("a", "1", json!({"spec": {"unschedulable": true}})),
            node("b", "1", tainted),
            node("c", "1", json!({})),
        ];
        assert_eq!(
            place(&nodes, &[json!({"nodeSelector": {"disk": "ssd"}})]),
            [
                "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
              1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
            ]
        );
        assert_eq!(
            place(&[], &[json!({})]),
            ["no nodes available to schedule pods"]
        );
    }

    #[test]
    fn anti_affinity_keeps_pods_apart_and_affinity_brings_them_together() {
        let nodes = [node("a", "4", json!({})), node("b", "4", json!({}))];
        let term = json!([{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}]);
        let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
        let mut placed = place(&nodes, &[apart.clone(), apart.clone(), apart]);
        let last = placed.pop().unwrap();
        placed.sort();
        assert_eq!(placed, ["a", "b"]);
        assert_eq!(
            last,
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."
        );
        let together = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
        let placed = place(&nodes, &[together.clone(), together.clone(), together]);
        assert!(placed.iter().all(|n| *n == placed[0]), "{placed:?}");
    }

    #[test]
    fn host_ports_and_spread_constraints_are_kept() {
        let nodes = [node("a", "4", json!({})), node("b", "4", json!({}))];
        let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
        let mut placed = place(&nodes, &[port.clone(), port.clone(), port]);
        assert_eq!(
            placed.pop().unwrap(),
            "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
        );
        let spread = json!({"topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "x"}},
        }]});
        let mut placed = place(
            &nodes,
            &[spread.clone(), spread.clone(), spread.clone(), spread],
        );
        placed.sort();
        assert_eq!(placed, ["a", "a", "b", "b"]);
    }
}
