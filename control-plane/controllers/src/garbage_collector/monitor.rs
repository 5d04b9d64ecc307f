//! Watches every resource whose objects can be deleted, and keeps the graph current.
//!
//! Which resources there are is read from discovery at the start and again whenever a CustomResourceDefinition or an
//! APIService changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use api_client::{Change, RawEvent, WatchStream};
use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::graph::{Graph, Identity};
use super::uid_key;
use crate::context::{Context, Queue};
use crate::resources::{ApiResource, discover};

/// Between a failed look at discovery and the next.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

/// The running watches.
pub(super) struct Monitors {
    resources: RwLock<Vec<ApiResource>>,
    running: Mutex<BTreeMap<ApiResource, AbortHandle>>,
    /// Watches that have not yet delivered all that was there when they started.
    unsynced: watch::Sender<Option<usize>>,
}

impl Monitors {
    pub(super) fn start(context: &Context, queue: Queue, graph: Arc<Mutex<Graph>>) -> Arc<Self> {
        let monitors = Arc::new(Self {
            resources: RwLock::default(),
            running: Mutex::default(),
            unsynced: watch::Sender::new(None),
        });
        let changed = Arc::new(Notify::new());
        changed.notify_one();
        let again = changed.clone();
        context
            .informer::<CustomResourceDefinition>()
            .on_change(move |_| again.notify_one());
        let again = changed.clone();
        context.informer::<APIService>().on_change(move |change| {
            if !matches!(change, Change::Applied { old: Some(_), .. }) {
                again.notify_one();
            }
        });
        let (this, of) = (monitors.clone(), context.clone());
        context.spawn(async move {
            loop {
                changed.notified().await;
                while let Err(status) = this.refresh(&of, &queue, &graph).await {
                    tracing::warn!(%status, "discovery failed; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
        monitors
    }

    /// Returns when the graph shows all that existed at the start.
    pub(super) async fn wait_synced(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self
            .unsynced
            .subscribe()
            .wait_for(|left| *left == Some(0))
            .await;
    }

    /// The resource that serves a kind.
    pub(super) fn resource(&self, group: &str, kind: &str) -> Option<ApiResource> {
        self.resources
            .read()
            .iter()
            .find(|r| r.group == group && r.kind == kind && r.can("get"))
            .cloned()
    }

    pub(super) fn is_namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        self.resource(group, kind).map(|r| r.namespaced)
    }

    fn count_down(&self) {
        self.unsynced
            .send_modify(|left| *left = Some(left.unwrap_or(1).saturating_sub(1)));
    }

    async fn refresh(
        self: &Arc<Self>,
        context: &Context,
        queue: &Queue,
        graph: &Arc<Mutex<Graph>>,
    ) -> Result<(), api_machinery::Status> {
        let found = discover(&context.client).await?;
        let wanted: Vec<ApiResource> = found
            .resources
            .iter()
            .filter(|r| is_watched(r))
            .cloned()
            .collect();
        *self.resources.write() = found.resources;
        if found.failed_groups.is_empty() {
            self.running.lock().retain(|resource, task| {
                let keep = wanted.contains(resource) && !task.is_finished();
                if !keep {
                    task.abort();
                }
                keep
            });
        }
        // Held until every watch has been counted, so that nobody sees zero too early.
        let first = self
            .unsynced
            .send_if_modified(|left| left.is_none() && left.replace(1).is_none());
        for resource in wanted {
            if self.running.lock().contains_key(&resource) {
                continue;
            }
            let stream = match context
                .client
                .backend()
                .watch(&resource.group, &resource.plural)
            {
                Ok(stream) => stream,
                Err(status) => {
                    tracing::debug!(resource = resource.name(), %status, "cannot be watched");
                    continue;
                }
            };
            self.unsynced
                .send_modify(|left| *left = Some(left.unwrap_or(0) + 1));
            let watching = Watching {
                resource: resource.clone(),
                queue: queue.clone(),
                graph: graph.clone(),
                known: HashMap::new(),
                unconfirmed: HashSet::new(),
                monitors: Arc::downgrade(self),
                counted: true,
            };
            let shutdown = context.shutdown.clone();
            let task = context.tasks.spawn(async move {
                tokio::select! { () = shutdown.cancelled() => {}, () = watching.run(stream) => {} }
            });
            self.running.lock().insert(resource, task.abort_handle());
        }
        if first {
            self.count_down();
        }
        Ok(())
    }
}

/// Events own nothing and are owned by nothing, but there are many of them.
fn is_watched(resource: &ApiResource) -> bool {
    let ignored =
        resource.plural == "events" && matches!(resource.group.as_str(), "" | "events.k8s.io");
    !ignored
        && ["delete", "list", "watch"]
            .iter()
            .all(|verb| resource.can(verb))
}

struct Watching {
    resource: ApiResource,
    queue: Queue,
    graph: Arc<Mutex<Graph>>,
    /// uid by namespace and name.
    known: HashMap<(String, String), String>,
    /// Objects that a restarted stream has not confirmed yet.
    unconfirmed: HashSet<(String, String)>,
    monitors: std::sync::Weak<Monitors>,
    /// Whether the monitors still wait for this watch.
    counted: bool,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.synced();
    }
}

impl Watching {
    async fn run(mut self, mut stream: WatchStream) {
        while let Some(event) = stream.next().await {
            match event {
                RawEvent::Applied { json } => self.apply(&json),
                RawEvent::Deleted { json } => {
                    if let Some(meta) = self.parse(&json) {
                        self.remove(&place(&meta));
                    }
                }
                RawEvent::Restarted => self.unconfirmed = self.known.keys().cloned().collect(),
                RawEvent::Synced => {
                    for place in std::mem::take(&mut self.unconfirmed) {
                        self.remove(&place);
                    }
                    self.synced();
                }
            }
        }
    }

    fn synced(&mut self) {
        if std::mem::take(&mut self.counted)
            && let Some(monitors) = self.monitors.upgrade()
        {
            monitors.count_down();
        }
    }

    fn parse(&self, json: &[u8]) -> Option<ObjectMeta> {
        let object: Result<Object, _> = serde_json::from_slice(json);
        object
            .inspect_err(|error| tracing::error!(resource = self.resource.name(), %error, "an object cannot be read"))
            .ok()
            .map(|object| object.metadata)
    }

    fn apply(&mut self, json: &[u8]) {
        let Some(meta) = self.parse(json) else { return };
        let place = place(&meta);
        let uid = meta.uid.clone().unwrap_or_default();
        self.unconfirmed.remove(&place);
        if self.known.get(&place).is_some_and(|known| *known != uid) {
            // Deleted and made anew while the stream was away.
            self.remove(&place);
        }
        let identity = Identity {
            group: self.resource.group.clone(),
            kind: self.resource.kind.clone(),
            namespace: place.0.clone(),
            name: place.1.clone(),
            uid: uid.clone(),
        };
        self.known.insert(place, uid);
        let affected = self.graph.lock().apply(identity, &meta);
        affected.iter().for_each(|uid| self.queue.add(uid_key(uid)));
    }

    fn remove(&mut self, place: &(String, String)) {
        let Some(uid) = self.known.remove(place) else {
            return;
        };
        let affected = self.graph.lock().remove(&uid);
        affected.iter().for_each(|uid| self.queue.add(uid_key(uid)));
    }
}

fn place(meta: &ObjectMeta) -> (String, String) {
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}
