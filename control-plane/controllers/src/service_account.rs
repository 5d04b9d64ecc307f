//! The `default` ServiceAccount of every namespace: pods that name no other run as it.

use std::sync::Arc;

use api_client::{Change, Informer, ObjectKey, is_already_exists};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::Outcome;
use crate::support::is_namespace_terminating;

const NAME: &str = "default";

/// Keys are those of namespaces.
pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let namespaces = context.informer::<Namespace>();
    let accounts = context.informer::<ServiceAccount>();
    enqueue_on_change(&namespaces, queue);
    let keys = queue.clone();
    accounts.on_change(move |change| {
        if let Change::Deleted(account) = change {
            keys.add(ObjectKey::new(
                "",
                account.metadata.namespace.clone().unwrap_or_default(),
            ));
        }
    });
    Arc::new(ServiceAccounts {
        context: context.clone(),
        namespaces,
        accounts,
    })
}

struct ServiceAccounts {
    context: Context,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

#[async_trait]
impl Controller for ServiceAccounts {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let exists = self
            .accounts
            .get(&ObjectKey::new(&key.name, NAME))
            .is_some();
        if exists || !is_active_namespace(self.namespaces.get(key).as_deref()) {
            return Ok(());
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                namespace: Some(key.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match self.context.client.create(Some(&key.name), &account).await {
            Err(status) if !is_already_exists(&status) && !is_namespace_terminating(&status) => {
                Err(status.into())
            }
            _ => Ok(()),
        }
    }
}

/// Whether things may still be created in the namespace.
pub(crate) fn is_active_namespace(namespace: Option<&Namespace>) -> bool {
    namespace.is_some_and(|namespace| {
        let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
        namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
    })
}
