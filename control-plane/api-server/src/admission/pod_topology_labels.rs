//! PodTopologyLabels: a pod that gets its node carries the node's zone and region, so that it can read them itself.

use std::sync::Arc;

use api_machinery::{ObjectExt, Status};
use async_trait::async_trait;

use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const LABELS: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub(super) struct PodTopologyLabels {
    pub(super) reader: Arc<dyn ObjectReader>,
}

#[async_trait]
impl Admission for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        // A binding is admitted as the change that it makes to its pod.
        (attributes.is("", "pods") && attributes.operation == Operation::Create)
            || attributes.is("", "pods/binding")
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(pod) = &mut attributes.object else {
            return Ok(());
        };
        let name = pod.text(&["spec", "nodeName"]);
        let Some(node) = self
            .reader
            .get("", "nodes", "", name)
            .filter(|_| !name.is_empty())
        else {
            return Ok(());
        };
        for label in LABELS {
            if let Some(value) = node.field(&["metadata", "labels", label]) {
                pod["metadata"]["labels"][label] = value.clone();
            }
        }
        Ok(())
    }
}
