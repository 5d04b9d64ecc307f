//! Garbage collector: deletes what no owner holds any more, in the background or before its owner, or lets it go free.
//!
//! All resources that can be deleted are watched, whatever their kind; `graph` remembers who owns whom. The graph only
//! says where to look: before anything is deleted, the object and its owners are read live, and a deletion carries the
//! uid and resourceVersion it was decided on.

mod graph;
mod monitor;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api_client::{Client, EventType, ObjectKey, Verb, is_not_found};
use api_machinery::Status;
use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::context::{Context, Controller, Queue};
use crate::error::{Error, Outcome};
use graph::{Graph, Identity, Node};
use monitor::Monitors;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Owners known to be gone that are remembered, to ask for each only once.
const ABSENT_LIMIT: usize = 500;
/// Every resource is watched by a stream of its own: an owner's deletion may be seen before dependents that are older.
/// For so long its dependents are waited for before it is decided that these are all.
const SETTLING: Duration = Duration::from_millis(200);
/// Owners remembered while they settle; beyond it those that are done are dropped.
const SETTLING_LIMIT: usize = 1000;

/// Keys are uids.
pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let graph = Arc::new(Mutex::new(Graph::default()));
    let monitors = Monitors::start(context, queue.clone(), graph.clone());
    Arc::new(GarbageCollector {
        context: context.clone(),
        queue: queue.clone(),
        graph,
        monitors,
        absent: Mutex::default(),
        settling: Mutex::default(),
    })
}

struct GarbageCollector {
    context: Context,
    queue: Queue,
    graph: Arc<Mutex<Graph>>,
    monitors: Arc<Monitors>,
    /// Namespace and uid of owners that do not exist.
    absent: Mutex<HashSet<(String, String)>>,
    /// Since when owners that wait for their dependents (or let them go) have been known to.
    settling: Mutex<HashMap<String, Instant>>,
}

/// How an object's owners stand.
#[derive(Debug, Default)]
struct Owners {
    /// Exist and hold the object.
    solid: Vec<String>,
    /// Do not exist.
    dangling: Vec<String>,
    /// Wait for their dependents to be deleted first.
    waiting: Vec<String>,
}

#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

pub(crate) fn uid_key(uid: &str) -> ObjectKey {
    ObjectKey::new("", uid)
}

#[async_trait]
impl Controller for GarbageCollector {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        // With part of the graph missing, an owner's dependents could be overlooked.
        self.monitors.wait_synced().await;
        let Some(node) = self.graph.lock().get(&key.name).cloned() else {
            self.settling.lock().remove(&key.name);
            return Ok(());
        };
        if node.orphans_dependents() {
            if self.settles(&node) {
                return Ok(());
            }
            return self.orphan_dependents(&node).await;
        }
        if node.deleting && !node.deletes_dependents() {
            return Ok(());
        }
        self.attempt_to_delete(&node).await
    }
}

impl GarbageCollector {
    async fn attempt_to_delete(&self, node: &Node) -> Outcome {
        let Some(latest) = self
            .read(&node.identity)
            .await?
            .filter(|o| o.uid.as_deref() == Some(&node.identity.uid))
        else {
            return self.is_gone(node);
        };
        if node.deletes_dependents() {
            return self.delete_dependents(node).await;
        }
        let references = latest.owner_references.clone().unwrap_or_default();
        if !references.is_empty() {
            let owners = self.classify(node, &references).await?;
            self.act(node, &latest, &references, owners).await?;
        }
        if node.observed {
            Ok(())
        } else {
            Err(Error::NotReady(format!(
                "{} exists but was not seen yet",
                node.identity
            )))
        }
    }

    /// Whether dependents of the owner may still be on their way here; if so, it is looked at again.
    fn settles(&self, node: &Node) -> bool {
        let uid = &node.identity.uid;
        let mut settling = self.settling.lock();
        if settling.len() >= SETTLING_LIMIT {
            settling.retain(|_, since| since.elapsed() < 2 * SETTLING);
        }
        let since = *settling.entry(uid.clone()).or_insert_with(Instant::now);
        let left = SETTLING.saturating_sub(since.elapsed());
        if !left.is_zero() {
            self.queue.add_after(uid_key(uid), left);
        }
        !left.is_zero()
    }

    /// What the graph had only heard of, or not yet heard of the end of.
    fn is_gone(&self, node: &Node) -> Outcome {
        let affected = self.graph.lock().remove(&node.identity.uid);
        affected.iter().for_each(|uid| self.queue.add(uid_key(uid)));
        Ok(())
    }

    async fn act(
        &self,
        node: &Node,
        latest: &ObjectMeta,
        references: &[OwnerReference],
        owners: Owners,
    ) -> Outcome {
        if !owners.solid.is_empty() {
            let released: Vec<String> = owners.dangling.into_iter().chain(owners.waiting).collect();
            return if released.is_empty() {
                Ok(())
            } else {
                self.release(&node.identity, latest, &released).await
            };
        }
        let has = |finalizer: &str| latest.finalizers.iter().flatten().any(|f| f == finalizer);
        let policy = if !owners.waiting.is_empty() && !node.dependents.is_empty() {
            self.unblock_cycle(node, latest, references).await?;
            "Foreground"
        } else if has(ORPHAN) {
            "Orphan"
        } else if has(FOREGROUND) {
            "Foreground"
        } else {
            "Background"
        };
        match self.delete(&node.identity, latest, policy).await {
            Err(status) if is_not_found(&status) => self.is_gone(node),
            answer => Ok(answer?),
        }
    }

    /// When a dependent is being deleted in the foreground too, the two might wait for one another for ever: the object
    /// no longer blocks its owners.
    async fn unblock_cycle(
        &self,
        node: &Node,
        latest: &ObjectMeta,
        references: &[OwnerReference],
    ) -> Outcome {
        let cycle = {
            let graph = self.graph.lock();
            node.dependents
                .iter()
                .any(|uid| graph.get(uid).is_some_and(Node::deletes_dependents))
        };
        if !cycle
            || references
                .iter()
                .all(|r| r.block_owner_deletion != Some(true))
        {
            return Ok(());
        }
        let unblocked = |r: &OwnerReference| OwnerReference {
            block_owner_deletion: Some(false),
            ..r.clone()
        };
        let references: Vec<OwnerReference> = references.iter().map(unblocked).collect();
        let metadata =
            json!({"resourceVersion": latest.resource_version, "ownerReferences": references});
        self.patch(&node.identity, metadata).await?;
        // The object has another resourceVersion now: the deletion follows with the next look.
        Err(Error::NotReady(format!("{} was unblocked", node.identity)))
    }

    async fn delete_dependents(&self, node: &Node) -> Outcome {
        let (blocking, to_delete) = {
            let graph = self.graph.lock();
            let blocking = graph.blocking_dependents(&node.identity.uid);
            let waiting = |uid: &&String| graph.get(uid).is_some_and(|n| !n.deletes_dependents());
            let to_delete: Vec<String> = blocking.iter().filter(waiting).cloned().collect();
            (blocking, to_delete)
        };
        if blocking.is_empty() {
            if self.settles(node) {
                return Ok(());
            }
            return self.remove_finalizer(&node.identity, FOREGROUND).await;
        }
        to_delete
            .iter()
            .for_each(|uid| self.queue.add(uid_key(uid)));
        Ok(())
    }

    async fn orphan_dependents(&self, node: &Node) -> Outcome {
        for uid in &node.dependents {
            let Some(dependent) = self.graph.lock().get(uid).map(|n| n.identity.clone()) else {
                continue;
            };
            if let Some(latest) = self
                .read(&dependent)
                .await?
                .filter(|o| o.uid.as_deref() == Some(uid))
            {
                self.release(
                    &dependent,
                    &latest,
                    std::slice::from_ref(&node.identity.uid),
                )
                .await?;
            }
        }
        self.remove_finalizer(&node.identity, ORPHAN).await
    }

    async fn classify(&self, node: &Node, references: &[OwnerReference]) -> Outcome<Owners> {
        let mut owners = Owners::default();
        for reference in references {
            let place = match self.owner(node, reference).await? {
                None => &mut owners.dangling,
                Some(owner) => {
                    let waits = owner.deletion_timestamp.is_some()
                        && owner.finalizers.iter().flatten().any(|f| f == FOREGROUND);
                    if waits {
                        &mut owners.waiting
                    } else {
                        &mut owners.solid
                    }
                }
            };
            place.push(reference.uid.clone());
        }
        Ok(owners)
    }

    /// The live owner behind a reference, looked for where an owner must be: in the dependent's own namespace.
    async fn owner(&self, node: &Node, reference: &OwnerReference) -> Outcome<Option<ObjectMeta>> {
        let known_absent = (node.identity.namespace.clone(), reference.uid.clone());
        if self.absent.lock().contains(&known_absent) {
            return Ok(None);
        }
        let owner = Identity::of_owner(reference, &node.identity.namespace);
        if self.monitors.is_namespaced(&owner.group, &owner.kind) == Some(true)
            && node.identity.namespace.is_empty()
        {
            let message = format!(
                "ownerRef {owner} is namespaced, but {} is cluster-scoped",
                node.identity
            );
            self.warn(&node.identity, &message);
            return Err(Error::Invalid(message));
        }
        let found = self
            .read(&owner)
            .await?
            .filter(|o| o.uid.as_deref() == Some(&reference.uid));
        if found.is_none() {
            let mut absent = self.absent.lock();
            if absent.len() >= ABSENT_LIMIT {
                absent.clear();
            }
            absent.insert(known_absent);
        }
        Ok(found)
    }

    fn warn(&self, identity: &Identity, message: &str) {
        let object = k8s_openapi::api::core::v1::ConfigMap {
            metadata: ObjectMeta {
                name: Some(identity.name.clone()),
                namespace: Some(identity.namespace.clone()).filter(|n| !n.is_empty()),
                uid: Some(identity.uid.clone()),
                ..ObjectMeta::default()
            },
            ..Default::default()
        };
        if identity.kind == "ConfigMap" {
            self.context.recorder.record_for(
                &object,
                EventType::Warning,
                "OwnerRefInvalidNamespace",
                message,
            );
        }
        tracing::warn!(object = %identity, message, "owner reference cannot be followed");
    }

    fn client(&self) -> &Client {
        &self.context.client
    }

    fn path(&self, identity: &Identity) -> Outcome<String> {
        let resource = self
            .monitors
            .resource(&identity.group, &identity.kind)
            .ok_or_else(|| {
                Error::NotReady(format!(
                    "no matches for kind \"{}\" in group \"{}\"",
                    identity.kind, identity.group
                ))
            })?;
        Ok(resource.path(Some(&identity.namespace), &identity.name))
    }

    async fn read(&self, identity: &Identity) -> Outcome<Option<ObjectMeta>> {
        let path = self.path(identity)?;
        match self
            .client()
            .raw(Verb::Get, path.clone(), "application/json", Bytes::new())
            .await
        {
            Ok(body) => {
                let object: Object = serde_json::from_slice(&body).map_err(|error| {
                    Error::Api(Status::internal_error(format!("{path}: {error}")))
                })?;
                Ok(Some(object.metadata))
            }
            Err(status) if is_not_found(&status) => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    async fn delete(
        &self,
        identity: &Identity,
        latest: &ObjectMeta,
        policy: &str,
    ) -> Result<(), Status> {
        let path = self
            .path(identity)
            .map_err(|error| Status::internal_error(error.to_string()))?;
        let preconditions = json!({"uid": latest.uid, "resourceVersion": latest.resource_version});
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy,
            "preconditions": preconditions});
        self.client()
            .raw(
                Verb::Delete,
                path,
                "application/json",
                body.to_string().into(),
            )
            .await
            .map(drop)
    }

    /// Takes the references to `owners` off the object.
    async fn release(
        &self,
        identity: &Identity,
        latest: &ObjectMeta,
        owners: &[String],
    ) -> Outcome {
        let kept = latest
            .owner_references
            .iter()
            .flatten()
            .filter(|r| !owners.contains(&r.uid));
        let kept: Vec<&OwnerReference> = kept.collect();
        if kept.len() == latest.owner_references.as_ref().map_or(0, Vec::len) {
            return Ok(());
        }
        let references = if kept.is_empty() {
            json!(null)
        } else {
            json!(kept)
        };
        let metadata = json!({"resourceVersion": latest.resource_version, "uid": latest.uid, "ownerReferences": references});
        self.patch(identity, metadata).await
    }

    async fn remove_finalizer(&self, identity: &Identity, finalizer: &str) -> Outcome {
        let Some(latest) = self
            .read(identity)
            .await?
            .filter(|o| o.uid.as_deref() == Some(&identity.uid))
        else {
            return Ok(());
        };
        let finalizers = latest.finalizers.unwrap_or_default();
        if !finalizers.iter().any(|f| f == finalizer) {
            return Ok(());
        }
        let kept: Vec<&String> = finalizers.iter().filter(|f| *f != finalizer).collect();
        let metadata = json!({"resourceVersion": latest.resource_version, "uid": latest.uid, "finalizers": kept});
        self.patch(identity, metadata).await
    }

    async fn patch(&self, identity: &Identity, metadata: serde_json::Value) -> Outcome {
        let path = self.path(identity)?;
        let body = json!({ "metadata": metadata }).to_string();
        match self
            .client()
            .raw(
                Verb::Patch,
                path,
                "application/merge-patch+json",
                body.into(),
            )
            .await
        {
            Err(status) if is_not_found(&status) => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }
}
