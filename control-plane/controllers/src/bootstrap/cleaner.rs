//! Deletes bootstrap tokens when they expire.

use std::sync::Arc;

use api_client::{DeleteOptions, Informer, ObjectKey, is_conflict, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;

use super::{Expiry, expiry, is_token};
use crate::context::{Context, Controller, Queue, until};
use crate::error::Outcome;

/// Keys are those of tokens' Secrets.
pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let secrets = context.informer::<Secret>();
    let keys = queue.clone();
    secrets.on_change(move |change| {
        if is_token(change.object()) {
            keys.add(ObjectKey::of(change.object().as_ref()));
        }
    });
    Arc::new(Cleaner {
        context: context.clone(),
        queue: queue.clone(),
        secrets,
    })
}

struct Cleaner {
    context: Context,
    queue: Queue,
    secrets: Informer<Secret>,
}

#[async_trait]
impl Controller for Cleaner {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(secret) = self.secrets.get(key).filter(|secret| is_token(secret)) else {
            return Ok(());
        };
        let now = self.context.now();
        match expiry(&secret) {
            Expiry::Never => return Ok(()),
            Expiry::At(end) if end > now => {
                self.queue.add_after(key.clone(), until(now, end));
                return Ok(());
            }
            Expiry::At(_) | Expiry::Unreadable => {}
        }
        // The token may have been prolonged since: only what was judged is deleted.
        let options = DeleteOptions {
            uid: secret.metadata.uid.clone(),
            resource_version: secret.metadata.resource_version.clone(),
            ..DeleteOptions::default()
        };
        match self
            .context
            .client
            .delete::<Secret>(key.namespace(), &key.name, &options)
            .await
        {
            Err(status) if !is_not_found(&status) && !is_conflict(&status) => Err(status.into()),
            _ => Ok(()),
        }
    }
}
