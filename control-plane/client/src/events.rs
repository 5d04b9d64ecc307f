//! The event recorder: `Event` objects about other objects, as `kubectl describe` shows them.
//!
//! Repeats of the same event raise its count instead of making a new object. Recording never waits and never fails the
//! caller: events are sent by one task, and the oldest are dropped when the API is slower than they come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use crate::client::{Client, Kind, Patch};

/// Events that may wait to be sent.
const QUEUE_LIMIT: usize = 1000;
/// Distinct events remembered for counting repeats.
const REMEMBERED_LIMIT: usize = 4096;
/// A repeat later than this is a new event.
const REPEAT_WINDOW: Duration = Duration::from_secs(600);

/// Normal or Warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    uid: String,
    kind: String,
    namespace: String,
    name: String,
    event_type: EventType,
    reason: String,
    message: String,
}

struct Occurrence {
    identity: Identity,
    regarding: ObjectReference,
    at: Timestamp,
}

struct Remembered {
    name: String,
    count: i32,
    last: Timestamp,
}

/// Records events in the name of one component. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Occurrence>,
}

impl EventRecorder {
    /// Starts the sending task; it ends when the last clone of the recorder is dropped.
    pub fn start(client: Client, component: &'static str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
        tokio::spawn(send_all(client, component, receiver));
        Self { sender }
    }

    /// Records that `reason` (one CamelCase word) happened to `object`.
    pub fn record<K: Kind>(
        &self,
        object: &Arc<K>,
        event_type: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record_for(object.as_ref(), event_type, reason, message);
    }

    /// As [`record`](Self::record), for an object that is not shared.
    pub fn record_for<K: Kind>(
        &self,
        object: &K,
        event_type: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let meta = object.metadata();
        let regarding = ObjectReference {
            api_version: Some(K::API_VERSION.into()),
            kind: Some(K::KIND.into()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: None,
        };
        let identity = Identity {
            uid: meta.uid.clone().unwrap_or_default(),
            kind: K::KIND.into(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            event_type,
            reason: reason.into(),
            message: message.into(),
        };
        if self
            .sender
            .try_send(Occurrence {
                identity,
                regarding,
                at: Timestamp::now(),
            })
            .is_err()
        {
            tracing::warn!(reason, "event dropped: the queue of events is full");
        }
    }
}

async fn send_all(
    client: Client,
    component: &'static str,
    mut receiver: mpsc::Receiver<Occurrence>,
) {
    let mut remembered: HashMap<Identity, Remembered> = HashMap::new();
    while let Some(occurrence) = receiver.recv().await {
        if remembered.len() >= REMEMBERED_LIMIT {
            remembered.clear();
        }
        if let Err(status) = send(&client, component, &mut remembered, occurrence).await {
            tracing::debug!(%status, component, "event not recorded");
        }
    }
}

async fn send(
    client: &Client,
    component: &str,
    remembered: &mut HashMap<Identity, Remembered>,
    occurrence: Occurrence,
) -> Result<(), api_machinery::Status> {
    let Occurrence {
        identity,
        regarding,
        at,
    } = occurrence;
    let namespace = Some(identity.namespace.as_str())
        .filter(|n| !n.is_empty())
        .unwrap_or("default")
        .to_owned();
    if let Some(seen) = remembered.get_mut(&identity)
        && at.duration_since(seen.last).unsigned_abs() < REPEAT_WINDOW
    {
        seen.count += 1;
        seen.last = at;
        let patch = Patch::Merge(json!({"count": seen.count, "lastTimestamp": Time(at)}));
        match client
            .patch::<Event>(Some(&namespace), &seen.name, "", &patch)
            .await
        {
            Err(status) if status.is_not_found() => {}
            answer => return answer.map(drop),
        }
    }
    let name = format!("{}.{:x}", identity.name, at.as_nanosecond());
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: regarding,
        reason: Some(identity.reason.clone()),
        message: Some(identity.message.clone()),
        source: Some(EventSource {
            component: Some(component.into()),
            host: None,
        }),
        reporting_component: Some(component.into()),
        reporting_instance: Some(String::new()),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        count: Some(1),
        type_: Some(identity.event_type.as_str().into()),
        ..Event::default()
    };
    client.create(Some(&namespace), &event).await?;
    remembered.insert(
        identity,
        Remembered {
            name,
            count: 1,
            last: at,
        },
    );
    Ok(())
}
