//! Runs the admission plugins over a write, in their order: first those that change, then those that refuse.

use std::sync::Arc;

use api_machinery::Status;
use serde_json::Value;

use crate::answer::Context;
use crate::core::Core;
use crate::plugin::{Attributes, Operation};
use crate::resource::Resource;

/// The attributes of a request's write.
pub(crate) fn attributes(
    cx: &Context,
    resource: &Resource,
    operation: Operation,
    object: Option<Value>,
    old: Option<Arc<Value>>,
    dry_run: bool,
) -> Attributes {
    Attributes {
        operation,
        group: resource.kind.group.to_string(),
        version: resource.version.clone(),
        kind: resource.kind.kind.to_string(),
        resource: resource.kind.plural.to_string(),
        subresource: cx.info.subresource.clone(),
        // A namespace is its own namespace, as upstream's request info has it.
        namespace: cx.info.namespace.clone(),
        name: cx.info.name.clone(),
        object,
        old,
        user: cx.user.clone(),
        dry_run,
        options: Value::Null,
        warnings: Vec::new(),
    }
}

impl Core {
    /// Lets plugins change the object.
    ///
    /// # Errors
    /// What the first plugin to refuse says.
    pub async fn admit(&self, cx: &Context, attributes: &mut Attributes) -> Result<(), Status> {
        for plugin in &self.plugins {
            if plugin.handles(attributes) {
                plugin.admit(attributes).await?;
            }
        }
        attributes
            .warnings
            .drain(..)
            .for_each(|sentence| cx.warn(sentence));
        Ok(())
    }

    /// Lets plugins refuse the object as it would be stored.
    ///
    /// # Errors
    /// What the first plugin to refuse says.
    pub async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        for plugin in &self.plugins {
            if plugin.handles(attributes) {
                plugin.validate(attributes).await?;
            }
        }
        Ok(())
    }
}
