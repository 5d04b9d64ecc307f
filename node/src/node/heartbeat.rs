//! Registers the node and keeps its status in the API true: written when it changes, and every five minutes.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::machine::{Free, Machine};
use super::status::{self, RuntimeView};
use crate::api;
use crate::config::AgentConfig;
use crate::cri::Cri;
use crate::error::AgentError;
use crate::events::Recorder;
use crate::self_fence;

/// How often the machine is looked at, as the kubelet's `nodeStatusUpdateFrequency`.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// How often it is looked at until it is ready for the first time.
const FIRST_LOOK_PERIOD: Duration = Duration::from_millis(200);
/// A status that does not change is still written this often, as the kubelet's `nodeStatusReportFrequency`.
const REPORT_PERIOD: SignedDuration = SignedDuration::from_mins(5);
/// How often registration is tried again, in the kubelet's rhythm: doubled up to the last.
const FIRST_REGISTER_RETRY: Duration = Duration::from_millis(200);
const LAST_REGISTER_RETRY: Duration = Duration::from_secs(7);

/// Creates the Node, or adopts the one that is there; tries until the API answers. An answer that will not change is an error.
pub(crate) async fn register(
    client: kube::Client,
    config: &AgentConfig,
    machine: &Machine,
) -> Result<Node, AgentError> {
    let api: Api<Node> = Api::all(client);
    let mut retry = FIRST_REGISTER_RETRY;
    loop {
        match try_register(&api, config, machine).await {
            Ok(node) => return Ok(node),
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 422) => {
                let source = Box::new(kube::Error::Api(status));
                return Err(AgentError::Register {
                    name: config.node_name.clone(),
                    source,
                });
            }
            Err(error) => {
                tracing::info!(
                    error = api::message(&error),
                    node = config.node_name,
                    "the node cannot be registered yet"
                );
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LAST_REGISTER_RETRY);
            }
        }
    }
}

async fn try_register(
    api: &Api<Node>,
    config: &AgentConfig,
    machine: &Machine,
) -> Result<Node, kube::Error> {
    let labels = labels(config, machine);
    let Some(_) = api.get_opt(&config.node_name).await? else {
        let taint = |t: &crate::config::NodeTaint| Taint {
            key: t.key.clone(),
            value: (!t.value.is_empty()).then(|| t.value.clone()),
            effect: t.effect.clone(),
            time_added: None,
        };
        let taints: Vec<Taint> = config.node_taints.iter().map(taint).collect();
        let node = Node {
            metadata: ObjectMeta {
                name: Some(config.node_name.clone()),
                labels: Some(labels),
                annotations: Some(annotations(config)),
                ..Default::default()
            },
            spec: Some(NodeSpec {
                taints: (!taints.is_empty()).then_some(taints),
                ..Default::default()
            }),
            status: None,
        };
        return api.create(&PostParams::default(), &node).await;
    };
    // The labels that the agent itself determines are kept true; others are the administrator's.
    let fence = config.self_fence.then_some("true");
    let patch =
        json!({"metadata": {"labels": labels, "annotations": {self_fence::ANNOTATION: fence}}});
    api.patch(
        &config.node_name,
        &PatchParams::default(),
        &Patch::Strategic(patch),
    )
    .await
}

fn annotations(config: &AgentConfig) -> std::collections::BTreeMap<String, String> {
    let attach = "volumes.kubernetes.io/controller-managed-attach-detach";
    let fence = config.self_fence.then_some(self_fence::ANNOTATION);
    let names = [Some(attach), fence].into_iter().flatten();
    names
        .map(|name| (name.to_string(), "true".to_string()))
        .collect()
}

fn labels(config: &AgentConfig, machine: &Machine) -> std::collections::BTreeMap<String, String> {
    let own = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture),
    ];
    let own = own.into_iter().map(|(k, v)| (k.to_string(), v.to_string()));
    config.node_labels.clone().into_iter().chain(own).collect()
}

/// Keeps the status true.
pub(crate) struct Heartbeat {
    pub(crate) client: kube::Client,
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) machine: Machine,
    pub(crate) cri: Cri,
    pub(crate) recorder: Recorder,
    /// The status that the API has.
    pub(crate) written: NodeStatus,
    /// Woken when the API answers again: others may have called the node lost in the meantime.
    pub(crate) back: Arc<Notify>,
}

impl Heartbeat {
    /// Runs until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        self.recorder.node(
            &self.config.node_name,
            false,
            "Starting",
            "Starting kubelet.",
        );
        let mut reported = Timestamp::UNIX_EPOCH;
        let mut ready = false;
        loop {
            if ready {
                self.look_back().await;
            }
            let now = Timestamp::now();
            let status = self.compute(now).await;
            let due = now.duration_since(reported) >= REPORT_PERIOD;
            if due || !status::same(&status, &self.written) {
                match self.write(&status).await {
                    Ok(()) => reported = now,
                    Err(error) if api::is_not_found(&error) => self.register_again().await,
                    Err(error) => tracing::warn!(
                        error = api::message(&error),
                        "cannot write the node's status"
                    ),
                }
            }
            ready |= is_ready(&self.written);
            let period = if ready {
                LOOK_PERIOD
            } else {
                FIRST_LOOK_PERIOD
            };
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                () = self.back.notified() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Learns what others made of the node's conditions: a node that was not heard of is `Unknown` until its agent says more.
    async fn look_back(&mut self) {
        let api: Api<Node> = Api::all(self.client.clone());
        match api.get(&self.config.node_name).await {
            Ok(node) => status::take_over(&mut self.written, &node.status.unwrap_or_default()),
            Err(error) => tracing::debug!(error = api::message(&error), "the node cannot be read"),
        }
    }

    /// The node was deleted while its agent runs: it comes back.
    async fn register_again(&mut self) {
        let api: Api<Node> = Api::all(self.client.clone());
        match try_register(&api, &self.config, &self.machine).await {
            Ok(node) => self.written = node.status.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(
                    error = api::message(&error),
                    "cannot register the node again"
                );
            }
        }
    }

    async fn compute(&self, now: Timestamp) -> NodeStatus {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let runtime = self.runtime().await;
        let free = Free::read(&self.config.data_dir);
        status::status(
            &self.config,
            &self.machine,
            &free,
            &runtime,
            &self.written,
            now,
        )
    }

    async fn runtime(&self) -> RuntimeView {
        let asked = async {
            let version = self.cri.version().await?;
            let status = self.cri.status(false).await?.status.unwrap_or_default();
            let images = self.cri.list_images().await?;
            Ok::<_, tonic::Status>(RuntimeView {
                version,
                conditions: status.conditions,
                images,
                error: None,
            })
        };
        asked.await.unwrap_or_else(|e| RuntimeView {
            error: Some(e.message().to_string()),
            ..Default::default()
        })
    }

    async fn write(&mut self, status: &NodeStatus) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let body = json!({"status": patch(&self.written, status)});
        api.patch_status(
            &self.config.node_name,
            &PatchParams::default(),
            &Patch::Strategic(body),
        )
        .await?;
        self.tell(status);
        // What others add to the status is not compared.
        self.written = status.clone();
        Ok(())
    }

    /// Events about conditions that changed, by the kubelet's names.
    fn tell(&self, status: &NodeStatus) {
        for condition in status.conditions.iter().flatten() {
            let old = self
                .written
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == condition.type_);
            if old.is_some_and(|o| o.status == condition.status) {
                continue;
            }
            let reason = match (condition.type_.as_str(), condition.status.as_str()) {
                ("MemoryPressure", "False") => "NodeHasSufficientMemory",
                ("MemoryPressure", _) => "NodeHasInsufficientMemory",
                ("DiskPressure", "False") => "NodeHasNoDiskPressure",
                ("DiskPressure", _) => "NodeHasDiskPressure",
                ("PIDPressure", "False") => "NodeHasSufficientPID",
                ("PIDPressure", _) => "NodeHasInsufficientPID",
                ("Ready", "True") => "NodeReady",
                _ => "NodeNotReady",
            };
            let name = &self.config.node_name;
            self.recorder.node(
                name,
                false,
                reason,
                format!("Node {name} status is now: {reason}"),
            );
        }
    }
}

fn is_ready(status: &NodeStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// What changed, as a strategic merge patch. Addresses are merged by type, so they are replaced as a whole.
fn patch(old: &NodeStatus, new: &NodeStatus) -> Value {
    let value = |status: &NodeStatus| serde_json::to_value(status).unwrap_or_default();
    let (old, new) = (value(old), value(new));
    let mut out = serde_json::Map::new();
    for (key, value) in new.as_object().into_iter().flatten() {
        if key != "conditions" && old.get(key) == Some(value) {
            continue;
        }
        let mut value = value.clone();
        if let (true, Some(list)) = (key == "addresses", value.as_array_mut()) {
            list.push(json!({"$patch": "replace"}));
        }
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}
