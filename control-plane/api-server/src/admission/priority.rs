//! Priority: a pod's priority is that of its class, or of the default class.

use std::sync::Arc;

use api_machinery::{ObjectExt, Status};
use async_trait::async_trait;
use serde_json::Value;

use super::forbid;
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";

pub(super) struct Priority {
    pub(super) reader: Arc<dyn ObjectReader>,
}

impl Priority {
    /// Of several by mistake, the one of lowest value.
    fn default_class(&self) -> Option<Arc<Value>> {
        let classes = self.reader.list(GROUP, PLURAL, None);
        classes
            .into_iter()
            .filter(|c| c.flag(&["globalDefault"]))
            .min_by_key(|c| c.number(&["value"]))
    }

    /// Name, value and preemption policy for a pod that names `class`.
    async fn resolve(
        &self,
        attributes: &Attributes,
        class: &str,
    ) -> Result<(String, i64, String), Status> {
        let found = if class.is_empty() {
            match self.default_class() {
                Some(class) => class,
                None => return Ok((String::new(), 0, "PreemptLowerPriority".into())),
            }
        } else {
            match self.reader.get(GROUP, PLURAL, "", class) {
                Some(found) => found,
                None => self
                    .reader
                    .get_latest(GROUP, PLURAL, "", class)
                    .await?
                    .ok_or_else(|| {
                        forbid(
                            attributes,
                            format!("no PriorityClass with name {class} was found"),
                        )
                    })?,
            }
        };
        let value = found.number(&["value"]).unwrap_or_default();
        Ok((
            found.name().into(),
            value,
            found.text(&["preemptionPolicy"]).into(),
        ))
    }

    async fn admit_new_pod(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(pod) = &attributes.object else {
            return Ok(());
        };
        let class = pod.text(&["spec", "priorityClassName"]).to_owned();
        let (class, value, policy) = self.resolve(attributes, &class).await?;
        if let Some(given) = pod
            .number(&["spec", "priority"])
            .filter(|given| *given != value)
        {
            return Err(forbid(
                attributes,
                format!(
                    "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                     controller computed {value} from the given PriorityClass name"
                ),
            ));
        }
        let given = pod.text(&["spec", "preemptionPolicy"]);
        if !policy.is_empty() && !given.is_empty() && given != policy {
            return Err(forbid(
                attributes,
                format!(
                    "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority \
                     admission controller computed {policy} from the given PriorityClass name"
                ),
            ));
        }
        let Some(pod) = &mut attributes.object else {
            return Ok(());
        };
        if !class.is_empty() {
            pod["spec"]["priorityClassName"] = class.into();
        }
        pod["spec"]["priority"] = value.into();
        if !policy.is_empty() {
            pod["spec"]["preemptionPolicy"] = policy.into();
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && (attributes.is("", "pods") || attributes.is(GROUP, PLURAL))
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if attributes.resource != "pods" {
            return Ok(());
        }
        if attributes.operation == Operation::Create {
            return self.admit_new_pod(attributes).await;
        }
        let (Some(pod), Some(old)) = (&mut attributes.object, &attributes.old) else {
            return Ok(());
        };
        for field in ["priority", "preemptionPolicy"] {
            if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
                pod["spec"][field] = old["spec"][field].clone();
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(class) = attributes
            .object
            .as_ref()
            .filter(|o| o.flag(&["globalDefault"]))
        else {
            return Ok(());
        };
        let Some(default) = self
            .default_class()
            .filter(|_| attributes.resource == PLURAL)
        else {
            return Ok(());
        };
        if attributes.operation == Operation::Create || default.name() != class.name() {
            let reason = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                default.name()
            );
            return Err(forbid(attributes, reason));
        }
        Ok(())
    }
}
