//! Kubernetes Events about pods and the node: recorded without waiting, repeated ones counted, floods cut off.
//!
//! It is here so that no worker waits for the API to say something. It must not know why something is said.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::pod::spec;

/// Events waiting to be sent; more are dropped, as the kubelet does.
const QUEUE_LIMIT: usize = 1000;
/// Distinct events whose count is remembered.
const REMEMBERED_LIMIT: usize = 4096;
/// Events about one object that may come in a burst.
const BURST: f64 = 25.0;
/// Seconds until one more event about the same object is let through.
const REFILL_SECONDS: f64 = 300.0;

/// What is said about an object.
#[derive(Debug, Clone)]
struct Note {
    object: ObjectReference,
    warning: bool,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Says things about objects of the API.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Note>,
}

impl Recorder {
    /// A recorder and the task that sends what it records, as `host`.
    pub(crate) fn start(client: kube::Client, host: &str) -> Recorder {
        let (queue, notes) = mpsc::channel(QUEUE_LIMIT);
        tokio::spawn(
            Sender {
                client,
                host: host.to_string(),
                seen: HashMap::new(),
                budget: HashMap::new(),
            }
            .run(notes),
        );
        Recorder { queue }
    }

    fn note(&self, object: ObjectReference, warning: bool, reason: &'static str, message: String) {
        let note = Note {
            object,
            warning,
            reason,
            message,
            at: Timestamp::now(),
        };
        if self.queue.try_send(note).is_err() {
            tracing::debug!(reason, "an event was dropped: the queue is full");
        }
    }

    /// Says something normal about a pod, or one of its containers.
    pub(crate) fn normal(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.note(pod_reference(pod, container), false, reason, message.into());
    }

    /// Warns about a pod, or one of its containers.
    pub(crate) fn warning(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.note(pod_reference(pod, container), true, reason, message.into());
    }

    /// Says something about the node.
    pub(crate) fn node(
        &self,
        name: &str,
        warning: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: Some(name.into()),
            uid: Some(name.into()),
            ..Default::default()
        };
        self.note(object, warning, reason, message.into());
    }
}

fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.map(|name| {
        let init = spec::init_containers(pod).iter().any(|c| c.name == name);
        let list = if init { "initContainers" } else { "containers" };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

/// Object's uid, reason, message, field.
type Key = (String, &'static str, String, Option<String>);

struct Seen {
    name: String,
    count: i32,
}

struct Sender {
    client: kube::Client,
    host: String,
    seen: HashMap<Key, Seen>,
    /// Events left and when that was counted, by object.
    budget: HashMap<String, (f64, Timestamp)>,
}

impl Sender {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        while let Some(note) = notes.recv().await {
            let object = note.object.uid.clone().unwrap_or_default();
            if !self.allowed(object.clone(), note.at) {
                continue;
            }
            if let Err(error) = self.send(object, note).await {
                tracing::debug!(%error, "an event was not accepted");
            }
        }
    }

    fn allowed(&mut self, object: String, now: Timestamp) -> bool {
        if self.budget.len() > REMEMBERED_LIMIT {
            self.budget.clear();
        }
        let (left, counted) = self.budget.entry(object).or_insert((BURST, now));
        let quiet: SignedDuration = now.duration_since(*counted);
        *left = (*left + quiet.as_secs_f64() / REFILL_SECONDS).min(BURST);
        *counted = now;
        let allowed = *left >= 1.0;
        *left -= f64::from(u8::from(allowed));
        allowed
    }

    async fn send(&mut self, object: String, note: Note) -> Result<(), kube::Error> {
        let namespace = note
            .object
            .namespace
            .clone()
            .unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let key = (
            object,
            note.reason,
            note.message.clone(),
            note.object.field_path.clone(),
        );
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.count += 1;
            let patch = json!({"count": seen.count, "lastTimestamp": Time(note.at)});
            match api
                .patch(&seen.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Err(error) if crate::api::is_not_found(&error) => {}
                other => return other.map(|_| ()),
            }
        }
        let name = format!(
            "{}.{:x}",
            note.object.name.clone().unwrap_or_default(),
            note.at.as_nanosecond()
        );
        let event = self.event(&note, &name, namespace);
        api.create(&PostParams::default(), &event).await?;
        if self.seen.len() > REMEMBERED_LIMIT {
            self.seen.clear();
        }
        self.seen.insert(key, Seen { name, count: 1 });
        Ok(())
    }

    fn event(&self, note: &Note, name: &str, namespace: String) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(namespace),
                ..Default::default()
            },
            involved_object: note.object.clone(),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
            reason: Some(note.reason.into()),
            message: Some(note.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(note.at)),
            last_timestamp: Some(Time(note.at)),
            source: Some(EventSource {
                component: Some("kubelet".into()),
                host: Some(self.host.clone()),
            }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(self.host.clone()),
            ..Default::default()
        }
    }
}
