//! PersistentVolumeClaimResize: a claim grows only while it is bound and its class allows it.

use std::sync::Arc;

use api_machinery::{ObjectExt, Quantity, Status};
use async_trait::async_trait;
use serde_json::Value;

use super::forbid;
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct PersistentVolumeClaimResize {
    pub(super) reader: Arc<dyn ObjectReader>,
}

fn size(claim: &Value) -> Quantity {
    Quantity::parse(claim.text(&["spec", "resources", "requests", "storage"]))
        .unwrap_or(Quantity::ZERO)
}

fn class(claim: &Value) -> &str {
    match claim
        .field(&["metadata", "annotations", CLASS_ANNOTATION])
        .and_then(Value::as_str)
    {
        Some(class) => class,
        None => claim.text(&["spec", "storageClassName"]),
    }
}

#[async_trait]
impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is("", "persistentvolumeclaims") && attributes.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let (Some(claim), Some(old)) = (&attributes.object, &attributes.old) else {
            return Ok(());
        };
        if size(claim) <= size(old) {
            return Ok(());
        }
        if old.text(&["status", "phase"]) != "Bound" {
            return Err(forbid(
                attributes,
                "Only bound persistent volume claims can be expanded",
            ));
        }
        let name = class(claim);
        let found = self
            .reader
            .get("storage.k8s.io", "storageclasses", "", name);
        let expands = found.is_some_and(|class| class.flag(&["allowVolumeExpansion"]));
        if name.is_empty() || name != class(old) || !expands {
            let reason = "only dynamically provisioned pvc can be resized and the storageclass that provisions the \
                          pvc must support resize";
            return Err(forbid(attributes, reason));
        }
        Ok(())
    }
}
