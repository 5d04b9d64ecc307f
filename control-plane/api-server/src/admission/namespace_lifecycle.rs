//! NamespaceLifecycle: nothing is made in a namespace that is not there or that is going, and three never go.

use std::sync::Arc;

use api_machinery::{ObjectExt, Status, StatusCause};
use async_trait::async_trait;

use super::forbid;
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    reader: Arc<dyn ObjectReader>,
}

impl NamespaceLifecycle {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        if attributes.group.is_empty() && attributes.resource == "namespaces" {
            return attributes.operation == Operation::Delete;
        }
        // Whether a namespace exists is nothing that a question about rights may tell.
        let review = attributes.is("authorization.k8s.io", "localsubjectaccessreviews");
        !attributes.namespace.is_empty() && attributes.operation == Operation::Create && !review
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if attributes.operation == Operation::Delete {
            let immortal =
                attributes.subresource.is_empty() && IMMORTAL.contains(&attributes.name.as_str());
            return if immortal {
                Err(Status::forbidden(
                    "",
                    "namespaces",
                    &attributes.name,
                    "this namespace may not be deleted",
                ))
            } else {
                Ok(())
            };
        }
        let name = &attributes.namespace;
        let namespace = match self.reader.get("", "namespaces", "", name) {
            Some(namespace) => namespace,
            None => self
                .reader
                .get_latest("", "namespaces", "", name)
                .await?
                .ok_or_else(|| Status::not_found("", "namespaces", name))?,
        };
        if namespace.text(&["status", "phase"]) != "Terminating" {
            return Ok(());
        }
        let reason = format!(
            "unable to create new content in namespace {name} because it is being terminated"
        );
        Err(forbid(attributes, reason).with_cause(StatusCause {
            cause_type: "NamespaceTerminating".into(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".into(),
        }))
    }
}
