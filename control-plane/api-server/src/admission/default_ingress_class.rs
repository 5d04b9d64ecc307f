//! DefaultIngressClass: an Ingress that names no class gets the default one.

use std::sync::Arc;

use api_machinery::{ObjectExt, Status};
use async_trait::async_trait;

use super::default_storage_class::newest;
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const GROUP: &str = "networking.k8s.io";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// The old way to name a class.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultIngressClass {
    pub(super) reader: Arc<dyn ObjectReader>,
}

#[async_trait]
impl Admission for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is(GROUP, "ingresses") && attributes.operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(ingress) = &mut attributes.object else {
            return Ok(());
        };
        if !ingress["spec"]["ingressClassName"].is_null()
            || ingress
                .field(&["metadata", "annotations", CLASS_ANNOTATION])
                .is_some()
        {
            return Ok(());
        }
        let classes = self.reader.list(GROUP, "ingressclasses", None);
        if let Some(class) = newest(classes, |c| {
            c.text(&["metadata", "annotations", DEFAULT_ANNOTATION]) == "true"
        }) {
            ingress["spec"]["ingressClassName"] = class.into();
        }
        Ok(())
    }
}
