//! Deletes certificate requests that have served, or that nobody acted on.

use std::sync::Arc;

use api_client::{DeleteOptions, Informer, ObjectKey, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::context::{Context, Controller, Queue, enqueue_on_change, until};
use crate::error::Outcome;
use crate::support::Meta;

const DECIDED: SignedDuration = SignedDuration::from_secs(3600);
const PENDING: SignedDuration = SignedDuration::from_secs(24 * 3600);

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let requests = context.informer::<CertificateSigningRequest>();
    enqueue_on_change(&requests, queue);
    Arc::new(Cleaning {
        context: context.clone(),
        queue: queue.clone(),
        requests,
    })
}

struct Cleaning {
    context: Context,
    queue: Queue,
    requests: Informer<CertificateSigningRequest>,
}

#[async_trait]
impl Controller for Cleaning {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(request) = self.requests.get(key) else {
            return Ok(());
        };
        let now = self.context.now();
        let at = expiry(&request);
        if at > now {
            self.queue.add_after(key.clone(), until(now, at));
            return Ok(());
        }
        let options = DeleteOptions {
            uid: request.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        match self
            .context
            .client
            .delete::<CertificateSigningRequest>(None, &key.name, &options)
            .await
        {
            Err(status) if !is_not_found(&status) => Err(status.into()),
            _ => Ok(()),
        }
    }
}

/// A day after it was made, or an hour after it was approved, denied or failed.
fn expiry(request: &CertificateSigningRequest) -> Timestamp {
    let conditions = request
        .status
        .iter()
        .filter_map(|s| s.conditions.as_ref())
        .flatten();
    let decided = conditions
        .filter(|c| matches!(c.type_.as_str(), "Approved" | "Denied" | "Failed"))
        .filter_map(|c| c.last_update_time.as_ref().map(|t| t.0 + DECIDED))
        .min();
    decided.unwrap_or_else(|| request.created() + PENDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decided_requests_go_sooner() {
        let check = |conditions: serde_json::Value, expect: &str| {
            let request: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"request": "", "signerName": "x"}, "status": {"conditions": conditions}}))
            .expect("a request");
            assert_eq!(expiry(&request).to_string(), expect);
        };
        check(json!([]), "2026-01-02T00:00:00Z");
        let approved = json!([{"type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T02:00:00Z"}]);
        check(approved, "2026-01-01T03:00:00Z");
    }
}
