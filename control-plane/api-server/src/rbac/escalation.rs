//! Nobody may grant what they do not hold: checked on every write of a role or a binding.

use std::sync::Arc;

use api_machinery::{Status, go_quote};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::policy::{GROUP, RoleRef, not_found, rules_in};
use super::rule::{missing_rights, quoted_list};
use super::{PolicyRule, Rbac};
use crate::authz::{AccessQuery, Authorization};
use crate::plugin::{Admission, Attributes, Operation};

/// The check as a stage of every write. Upstream has it in the storage of the four kinds; here it is one row more.
pub(crate) struct RbacEscalation {
    pub(crate) authorization: Authorization,
    pub(crate) rbac: Rbac,
}

impl RbacEscalation {
    fn check_role(&self, attributes: &Attributes, object: &Value) -> Result<(), Status> {
        let query = AccessQuery {
            verb: "escalate",
            group: GROUP,
            resource: &attributes.resource,
            name: &attributes.name,
            namespace: &attributes.namespace,
            is_resource: true,
            ..AccessQuery::default()
        };
        if self
            .authorization
            .decide(&attributes.user, &query)
            .is_allowed()
        {
            return Ok(());
        }
        self.confirm(attributes, &rules_in(object))?;
        let aggregated = |role: &Value| {
            role["aggregationRule"]["clusterRoleSelectors"]
                .as_array()
                .is_some_and(|s| !s.is_empty())
        };
        if (aggregated(object) || attributes.old.as_deref().is_some_and(aggregated))
            && self
                .missing(attributes, &PolicyRule::everything())
                .is_some()
        {
            return Err(refuse(
                attributes,
                "must have cluster-admin privileges to use the aggregationRule",
            ));
        }
        Ok(())
    }

    fn check_binding(&self, attributes: &Attributes, object: &Value) -> Result<(), Status> {
        let Ok(role) = RoleRef::deserialize(&object["roleRef"]) else {
            return Ok(());
        };
        let resource = match role.kind.as_str() {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // Validation refuses it.
            _ => return Ok(()),
        };
        let query = AccessQuery {
            verb: "bind",
            group: &role.api_group,
            resource,
            name: &role.name,
            namespace: &attributes.namespace,
            is_resource: true,
            ..AccessQuery::default()
        };
        if self
            .authorization
            .decide(&attributes.user, &query)
            .is_allowed()
        {
            return Ok(());
        }
        let rules = self
            .rbac
            .rules_of(&role, &attributes.namespace)
            .ok_or_else(|| Status::not_found(GROUP, resource, &role.name))
            .inspect_err(|_| {
                tracing::debug!(
                    reason = not_found(&role),
                    "a binding to a role that is not there"
                )
            })?;
        self.confirm(attributes, &rules)
    }

    fn confirm(&self, attributes: &Attributes, wanted: &[PolicyRule]) -> Result<(), Status> {
        self.missing(attributes, wanted)
            .map_or(Ok(()), |reason| Err(refuse(attributes, &reason)))
    }

    /// The sentence about what the user lacks; none if nothing.
    fn missing(&self, attributes: &Attributes, wanted: &[PolicyRule]) -> Option<String> {
        let user = &attributes.user;
        let (held, errors) = self.rbac.rules_for(user, &attributes.namespace);
        let missing = missing_rights(&held, wanted);
        if missing.is_empty() {
            return None;
        }
        let mut reason = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            go_quote(&user.name),
            quoted_list(&user.groups),
            missing.join("\n")
        );
        if !errors.is_empty() {
            reason.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        Some(reason)
    }
}

fn refuse(attributes: &Attributes, reason: &str) -> Status {
    Status::forbidden(GROUP, &attributes.resource, &attributes.name, reason)
}

/// Whether an update leaves all but what the garbage collector needs as it was.
fn only_for_garbage_collection(object: &Value, old: &Arc<Value>) -> bool {
    let mut object = object.clone();
    for field in [
        "ownerReferences",
        "finalizers",
        "resourceVersion",
        "managedFields",
    ] {
        match old["metadata"].get(field) {
            Some(value) => object["metadata"][field] = value.clone(),
            None => {
                object["metadata"].as_object_mut().map(|m| m.remove(field));
            }
        }
    }
    object == **old
}

#[async_trait]
impl Admission for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.group == GROUP
            && attributes.subresource.is_empty()
            && matches!(attributes.operation, Operation::Create | Operation::Update)
            && !attributes.user.is_in_group("system:masters")
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(object) = &attributes.object else {
            return Ok(());
        };
        if attributes
            .old
            .as_ref()
            .is_some_and(|old| only_for_garbage_collection(object, old))
        {
            return Ok(());
        }
        match attributes.resource.as_str() {
            "clusterroles" | "roles" => self.check_role(attributes, object),
            "clusterrolebindings" | "rolebindings" => self.check_binding(attributes, object),
            _ => Ok(()),
        }
    }
}
