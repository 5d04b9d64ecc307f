//! RuntimeClass: a pod pays the overhead of its runtime and goes where that runtime is.

use std::sync::Arc;

use api_machinery::{ObjectExt, Status, go_quote};
use async_trait::async_trait;
use serde_json::Value;

use super::{forbid, push};
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

pub(super) struct RuntimeClass {
    pub(super) reader: Arc<dyn ObjectReader>,
}

impl RuntimeClass {
    async fn class_of(&self, attributes: &Attributes) -> Result<Option<Arc<Value>>, Status> {
        let name = attributes
            .object
            .as_ref()
            .map(|pod| pod.text(&["spec", "runtimeClassName"]))
            .unwrap_or_default();
        if name.is_empty() {
            return Ok(None);
        }
        let found = self
            .reader
            .get_latest("node.k8s.io", "runtimeclasses", "", name)
            .await?;
        match found {
            Some(class) => Ok(Some(class)),
            None => Err(forbid(
                attributes,
                format!("pod rejected: RuntimeClass {} not found", go_quote(name)),
            )),
        }
    }
}

#[async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is("", "pods") && attributes.operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(class) = self.class_of(attributes).await? else {
            return Ok(());
        };
        let overhead = &class["overhead"]["podFixed"];
        let selector = class.map(&["scheduling", "nodeSelector"]);
        let Some(pod) = &attributes.object else {
            return Ok(());
        };
        let given = &pod["spec"]["overhead"];
        if overhead.is_object()
            && given.as_object().is_some_and(|o| !o.is_empty())
            && given != overhead
        {
            let reason =
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(forbid(attributes, reason));
        }
        for (key, value) in selector.into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            if let Some(given) = pod
                .field(&["spec", "nodeSelector", key])
                .and_then(Value::as_str)
                && given != value
            {
                let reason = format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {given}"
                );
                return Err(forbid(attributes, reason));
            }
        }
        let Some(pod) = &mut attributes.object else {
            return Ok(());
        };
        if overhead.is_object() {
            pod["spec"]["overhead"] = overhead.clone();
        }
        for (key, value) in selector.into_iter().flatten() {
            pod["spec"]["nodeSelector"][key] = value.clone();
        }
        for toleration in class.list(&["scheduling", "tolerations"]) {
            if !pod.list(&["spec", "tolerations"]).contains(toleration) {
                push(&mut pod["spec"]["tolerations"], toleration.clone());
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(pod) = &attributes.object else {
            return Ok(());
        };
        let has_overhead = pod
            .map(&["spec", "overhead"])
            .is_some_and(|o| !o.is_empty());
        if !has_overhead {
            return Ok(());
        }
        let class = self.class_of(attributes).await?;
        let defined = class
            .as_ref()
            .map(|c| &c["overhead"]["podFixed"])
            .filter(|o| o.is_object());
        match defined {
            Some(defined) if *defined == pod["spec"]["overhead"] => Ok(()),
            Some(_) => {
                let reason =
                    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                Err(forbid(attributes, reason))
            }
            None => {
                let reason = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(forbid(attributes, reason))
            }
        }
    }
}
