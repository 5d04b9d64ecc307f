//! StorageObjectInUseProtection: volumes and claims get a finalizer that a controller takes away once nothing uses them.

use api_machinery::{ObjectExt, Status};
use async_trait::async_trait;

use super::push;
use crate::plugin::{Admission, Attributes, Operation};

/// Group, resource, finalizer.
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    (
        "storage.k8s.io",
        "volumeattributesclasses",
        "kubernetes.io/vac-protection",
    ),
];

pub(super) struct StorageObjectInUseProtection;

#[async_trait]
impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create
            && PROTECTED.iter().any(|(g, r, _)| attributes.is(g, r))
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let row = PROTECTED.iter().find(|(g, r, _)| attributes.is(g, r));
        let (Some((_, _, finalizer)), Some(object)) = (row, &mut attributes.object) else {
            return Ok(());
        };
        if !object
            .list(&["metadata", "finalizers"])
            .iter()
            .any(|f| f == finalizer)
        {
            push(&mut object["metadata"]["finalizers"], (*finalizer).into());
        }
        Ok(())
    }
}
