//! `serviceaccounts/token` as the pipeline finds it: nodes are restricted to their own pods' accounts first.

use std::sync::Arc;

use api_machinery::Status;
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::ServiceAccountTokens;
use crate::admission::{AdmissionContext, node_restriction};
use crate::plugin::{Admission, Attributes, Operation, VirtualRequest, VirtualResource};

/// Answers TokenRequests.
pub(crate) struct TokenRequests {
    tokens: ServiceAccountTokens,
    restriction: Arc<dyn Admission>,
}

impl TokenRequests {
    pub(crate) fn new(tokens: ServiceAccountTokens, context: &AdmissionContext) -> Self {
        Self {
            tokens,
            restriction: node_restriction(context),
        }
    }
}

#[async_trait]
impl VirtualResource for TokenRequests {
    fn resource(&self) -> (&'static str, &'static str) {
        ("", "serviceaccounts/token")
    }

    async fn create(&self, request: VirtualRequest<'_>) -> Result<Value, Status> {
        let mut attributes = Attributes {
            operation: Operation::Create,
            group: String::new(),
            version: "v1".into(),
            kind: "TokenRequest".into(),
            resource: "serviceaccounts".into(),
            subresource: "token".into(),
            namespace: request.namespace.into(),
            name: request.name.into(),
            object: Some(request.object),
            old: None,
            user: Arc::new(request.user.clone()),
            dry_run: request.dry_run,
            options: Value::Null,
            warnings: Vec::new(),
        };
        if self.restriction.handles(&attributes) {
            self.restriction.admit(&mut attributes).await?;
        }
        let object = attributes.object.unwrap_or_default();
        self.tokens
            .create(request.namespace, request.name, object, Timestamp::now())
            .await
    }
}
