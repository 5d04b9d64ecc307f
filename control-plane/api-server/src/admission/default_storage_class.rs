//! DefaultStorageClass: a claim that names no class gets the default one.

use std::sync::Arc;

use api_machinery::{ObjectExt, Status};
use async_trait::async_trait;
use serde_json::Value;

use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// The old way to name a class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct DefaultStorageClass {
    pub(super) reader: Arc<dyn ObjectReader>,
}

/// The default among classes: the newest, then the first by name.
pub(super) fn newest(
    classes: Vec<Arc<Value>>,
    is_default: impl Fn(&Value) -> bool,
) -> Option<String> {
    let created = |class: &Value| class.text(&["metadata", "creationTimestamp"]).to_owned();
    let mut defaults: Vec<_> = classes.into_iter().filter(|c| is_default(c)).collect();
    defaults.sort_by(|a, b| {
        created(b)
            .cmp(&created(a))
            .then_with(|| a.name().cmp(b.name()))
    });
    defaults.first().map(|class| class.name().to_owned())
}

#[async_trait]
impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is("", "persistentvolumeclaims") && attributes.operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(claim) = &mut attributes.object else {
            return Ok(());
        };
        if claim
            .field(&["metadata", "annotations", CLASS_ANNOTATION])
            .is_some()
            || !claim["spec"]["storageClassName"].is_null()
        {
            return Ok(());
        }
        let classes = self.reader.list("storage.k8s.io", "storageclasses", None);
        let marked = |c: &Value| {
            DEFAULT_ANNOTATIONS
                .iter()
                .any(|a| c.text(&["metadata", "annotations", a]) == "true")
        };
        if let Some(class) = newest(classes, marked) {
            claim["spec"]["storageClassName"] = class.into();
        }
        Ok(())
    }
}
