//! Namespace deletion: empties a namespace that is being deleted, then lets it go.
//!
//! Pods go first, so that nothing they may still need is taken from under them; everything else follows when they are
//! gone. What is in a namespace is learned from discovery, so kinds that came at run time are deleted too.

mod conditions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_client::{Change, Client, Informer, ObjectKey, Verb, is_conflict, is_not_found};
use api_machinery::Status;
use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::{Error, Outcome};
use crate::resources::{ApiResource, Discovered, discover};
use crate::support::Meta;
use conditions::updated_conditions;

const FINALIZER: &str = "kubernetes";
/// Between two looks at content that is not gone yet.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let namespaces = context.informer::<Namespace>();
    enqueue_on_change(&namespaces, queue);
    let (known, keys) = (namespaces.clone(), queue.clone());
    context.informer::<Pod>().on_change(move |change| {
        if let Change::Deleted(pod) = change {
            let key = ObjectKey::new("", pod.namespace());
            if known
                .get(&key)
                .is_some_and(|namespace| namespace.is_deleting())
            {
                keys.add(key);
            }
        }
    });
    Arc::new(NamespaceController {
        context: context.clone(),
        queue: queue.clone(),
        namespaces,
    })
}

struct NamespaceController {
    context: Context,
    queue: Queue,
    namespaces: Informer<Namespace>,
}

/// What was found and could not be done in one pass over a namespace.
#[derive(Debug, Default)]
struct Findings {
    /// Objects left, by resource.
    remaining: BTreeMap<String, usize>,
    /// Objects left that wait for a finalizer, by finalizer.
    finalizers: BTreeMap<String, usize>,
    discovery_failures: Vec<String>,
    deletion_failures: Vec<String>,
}

impl Findings {
    fn is_clean(&self) -> bool {
        self.remaining.is_empty()
            && self.discovery_failures.is_empty()
            && self.deletion_failures.is_empty()
    }
}

#[async_trait]
impl Controller for NamespaceController {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(cached) = self
            .namespaces
            .get(key)
            .filter(|namespace| namespace.is_deleting())
        else {
            return Ok(());
        };
        let namespace: Namespace = match self.context.client.get(None, &key.name).await {
            Err(status) if is_not_found(&status) => return Ok(()),
            answer => answer?,
        };
        if namespace.uid() != cached.uid() || !is_held(&namespace) {
            return Ok(());
        }
        let namespace = self.set_terminating(namespace).await?;
        let findings = self.delete_content(&key.name).await?;
        let namespace = self.report(namespace, &findings).await?;
        if findings.is_clean() {
            return self.finalize(namespace).await;
        }
        let waited = namespace
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|at| self.context.now().duration_since(at.0));
        let waited = waited
            .and_then(|time| Duration::try_from(time).ok())
            .unwrap_or_default();
        self.queue
            .add_after(key.clone(), (waited / 4).clamp(SHORTEST_WAIT, LONGEST_WAIT));
        Ok(())
    }
}

/// Whether the namespace still waits for this controller.
fn is_held(namespace: &Namespace) -> bool {
    namespace
        .spec
        .iter()
        .filter_map(|s| s.finalizers.as_ref())
        .flatten()
        .any(|f| f == FINALIZER)
}

impl NamespaceController {
    async fn set_terminating(&self, mut namespace: Namespace) -> Outcome<Namespace> {
        let status = namespace.status.get_or_insert_default();
        if status.phase.as_deref() == Some("Terminating") {
            return Ok(namespace);
        }
        status.phase = Some("Terminating".into());
        Ok(self.context.client.update_status(&namespace).await?)
    }

    async fn delete_content(&self, namespace: &str) -> Outcome<Findings> {
        let Discovered {
            resources,
            failed_groups,
        } = discover(&self.context.client).await?;
        let mut findings = Findings {
            discovery_failures: failed_groups
                .iter()
                .map(|(group, status)| format!("{group}: {status}"))
                .collect(),
            ..Findings::default()
        };
        let deletable = |r: &&ApiResource| r.namespaced && r.can("delete") && r.can("list");
        let (pods, others): (Vec<_>, Vec<_>) = resources
            .iter()
            .filter(deletable)
            .partition(|r| r.group.is_empty() && r.plural == "pods");
        for resource in pods {
            self.delete_resource(namespace, resource, &mut findings)
                .await;
        }
        if findings.remaining.is_empty() {
            for resource in others {
                self.delete_resource(namespace, resource, &mut findings)
                    .await;
            }
        }
        Ok(findings)
    }

    async fn delete_resource(
        &self,
        namespace: &str,
        resource: &ApiResource,
        findings: &mut Findings,
    ) {
        let client = &self.context.client;
        let result = async {
            let before = list(client, namespace, resource).await?;
            if before.is_empty() {
                return Ok(before);
            }
            delete_all(client, namespace, resource, &before).await?;
            list(client, namespace, resource).await
        };
        match result.await {
            Ok(left) => {
                if !left.is_empty() {
                    findings.remaining.insert(resource.name(), left.len());
                }
                for finalizer in left
                    .iter()
                    .flat_map(|item| item.finalizers.iter().flatten())
                {
                    *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
                }
            }
            Err(status) if is_not_found(&status) || status.code == 405 => {}
            Err(status) => findings.deletion_failures.push(status.to_string()),
        }
    }

    async fn report(&self, mut namespace: Namespace, findings: &Findings) -> Outcome<Namespace> {
        let status = namespace.status.get_or_insert_default();
        let conditions = updated_conditions(
            status.conditions.as_deref().unwrap_or_default(),
            findings,
            self.context.now(),
        );
        if status.conditions.as_ref() == Some(&conditions) {
            return Ok(namespace);
        }
        status.conditions = Some(conditions);
        match self.context.client.update_status(&namespace).await {
            Err(status) if is_not_found(&status) => Ok(namespace),
            answer => Ok(answer?),
        }
    }

    async fn finalize(&self, mut namespace: Namespace) -> Outcome {
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            finalizers.retain(|f| f != FINALIZER);
        }
        match self
            .context
            .client
            .update_subresource(&namespace, "finalize")
            .await
        {
            Err(status) if is_not_found(&status) => Ok(()),
            Err(status) if is_conflict(&status) => Err(Error::NotReady(status.to_string())),
            answer => Ok(answer.map(drop)?),
        }
    }
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: ObjectMeta,
}

async fn list(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
) -> Result<Vec<ObjectMeta>, Status> {
    let path = resource.path(Some(namespace), "");
    let body = client
        .raw(Verb::Get, path.clone(), "application/json", Bytes::new())
        .await?;
    let list: List = serde_json::from_slice(&body)
        .map_err(|error| Status::internal_error(format!("{path}: {error}")))?;
    Ok(list.items.into_iter().map(|item| item.metadata).collect())
}

/// In the background: the dependents are in the namespace too and go on their own.
async fn delete_all(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
    items: &[ObjectMeta],
) -> Result<(), Status> {
    let body = || {
        Bytes::from_static(
            br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#,
        )
    };
    if resource.can("deletecollection") {
        let path = resource.path(Some(namespace), "");
        return client
            .raw(Verb::Delete, path, "application/json", body())
            .await
            .map(drop);
    }
    for item in items
        .iter()
        .filter(|item| item.deletion_timestamp.is_none())
    {
        let path = resource.path(Some(namespace), item.name.as_deref().unwrap_or_default());
        match client
            .raw(Verb::Delete, path, "application/json", body())
            .await
        {
            Err(status) if !is_not_found(&status) => return Err(status),
            _ => {}
        }
    }
    Ok(())
}
