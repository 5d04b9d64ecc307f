//! The node authorizer: a node reads what the pods bound to it refer to, and writes what is its own.
//!
//! Relations are computed from the watch caches when asked. What a node may do to every object of a kind alike stands in
//! the role `system:node`; the finer half of the rules (which object a node may change) is the NodeRestriction admission
//! plugin's.

mod references;

use std::sync::Arc;

use api_machinery::FieldSelector;
use serde_json::Value;

use super::AccessQuery;
use crate::identity::{Decision, UserInfo};
use crate::plugin::ObjectReader;
use crate::rbac::{PolicyRule, bootstrap_objects};

use references::{Reference, refers_to};

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The node's name if the user is a node.
pub(crate) fn node_name(user: &UserInfo) -> Option<&str> {
    user.name
        .strip_prefix(USER_PREFIX)
        .filter(|_| user.is_in_group(GROUP))
}

pub(super) struct NodeAuthorizer {
    reader: Arc<dyn ObjectReader>,
    /// The rules of `system:node`.
    rules: Vec<PolicyRule>,
}

fn refuse(reason: impl Into<String>) -> Decision {
    Decision::no_opinion(reason)
}

fn allow() -> Decision {
    Decision::allow("")
}

impl NodeAuthorizer {
    pub(super) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        let role = bootstrap_objects()
            .into_iter()
            .find(|o| o.resource == "clusterroles" && o.name == "system:node");
        let rules =
            role.and_then(|mut role| serde_json::from_value(role.object["rules"].take()).ok());
        Self {
            reader,
            rules: rules.expect("the bootstrap policy has the role of nodes"),
        }
    }

    pub(super) fn decide(&self, user: &UserInfo, query: &AccessQuery<'_>) -> Decision {
        let Some(node) = node_name(user) else {
            return refuse("");
        };
        if node.is_empty() {
            return refuse(format!("unknown node for user {:?}", user.name));
        }
        if query.is_resource {
            match (query.group, query.resource) {
                ("", "secrets") => return self.read(node, query, Reference::Secret),
                ("", "configmaps") => return self.read(node, query, Reference::ConfigMap),
                ("", "persistentvolumeclaims") if query.subresource == "status" => {
                    return match query.verb {
                        "update" | "patch" => self.related(node, query, Reference::Claim),
                        _ => refuse("can only get/update/patch this type"),
                    };
                }
                ("", "persistentvolumeclaims") => return self.get(node, query, Reference::Claim),
                ("", "persistentvolumes") => return self.get(node, query, Reference::Volume),
                ("resource.k8s.io", "resourceclaims") => {
                    return self.get(node, query, Reference::ResourceClaim);
                }
                ("storage.k8s.io", "volumeattachments") => {
                    return self.get(node, query, Reference::Attachment);
                }
                ("", "serviceaccounts") => return self.service_account(node, query),
                ("coordination.k8s.io", "leases") => return lease(node, query),
                ("storage.k8s.io", "csinodes") => return csi_node(node, query),
                ("resource.k8s.io", "resourceslices") => return self.resource_slice(node, query),
                ("", "nodes") => return own_node(node, query),
                ("", "pods") => return self.pod(node, query),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(query)) {
            allow()
        } else {
            refuse("")
        }
    }

    fn read(&self, node: &str, query: &AccessQuery<'_>, reference: Reference) -> Decision {
        if !matches!(query.verb, "get" | "list" | "watch") {
            return refuse("can only read resources of this type");
        }
        if !query.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if query.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        self.related(node, query, reference)
    }

    fn get(&self, node: &str, query: &AccessQuery<'_>, reference: Reference) -> Decision {
        if query.verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !query.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        self.related(node, query, reference)
    }

    fn service_account(&self, node: &str, query: &AccessQuery<'_>) -> Decision {
        if query.verb == "get" && query.subresource.is_empty() {
            return self.read(node, query, Reference::ServiceAccount);
        }
        if query.verb != "create" || query.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if query.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        self.related(node, query, Reference::ServiceAccount)
    }

    fn resource_slice(&self, node: &str, query: &AccessQuery<'_>) -> Decision {
        if !query.subresource.is_empty() {
            return refuse("cannot authorize ResourceSlice subresources");
        }
        match query.verb {
            "create" => allow(),
            "get" | "update" | "patch" | "delete" => {
                self.related(node, query, Reference::ResourceSlice)
            }
            "watch" | "list" | "deletecollection"
                if selects(query.field_selector, "spec.nodeName", node) =>
            {
                allow()
            }
            "watch" | "list" | "deletecollection" => refuse(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, query: &AccessQuery<'_>) -> Decision {
        match (query.subresource, query.verb) {
            ("", "get") => self.get(node, query, Reference::Pod),
            ("", "list" | "watch") if selects(query.field_selector, "spec.nodeName", node) => {
                allow()
            }
            ("", "list" | "watch") if !query.name.is_empty() => {
                self.related(node, query, Reference::Pod)
            }
            ("", "list" | "watch") => {
                refuse("can only list/watch pods with spec.nodeName field selector")
            }
            // Which pods is NodeRestriction's matter.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                allow()
            }
            _ => refuse(""),
        }
    }

    fn related(&self, node: &str, query: &AccessQuery<'_>, reference: Reference) -> Decision {
        if query.name.is_empty() {
            return refuse("No Object name found");
        }
        if self.is_related(node, reference, query.namespace, query.name) {
            allow()
        } else {
            refuse(format!(
                "no relationship found between node '{node}' and this object"
            ))
        }
    }

    fn is_related(&self, node: &str, reference: Reference, namespace: &str, name: &str) -> bool {
        let on_node =
            |object: Option<Arc<Value>>| object.is_some_and(|o| o["spec"]["nodeName"] == node);
        match reference {
            Reference::Pod => on_node(self.reader.get("", "pods", namespace, name)),
            Reference::Attachment => {
                on_node(
                    self.reader
                        .get("storage.k8s.io", "volumeattachments", "", name),
                )
            }
            Reference::ResourceSlice => {
                on_node(
                    self.reader
                        .get("resource.k8s.io", "resourceslices", "", name),
                )
            }
            Reference::Volume => {
                let Some(volume) = self.reader.get("", "persistentvolumes", "", name) else {
                    return false;
                };
                let claim = &volume["spec"]["claimRef"];
                match (claim["namespace"].as_str(), claim["name"].as_str()) {
                    (Some(namespace), Some(claim)) => {
                        self.some_pod(node, Reference::Claim, namespace, claim)
                    }
                    _ => false,
                }
            }
            reference => {
                self.some_pod(node, reference, namespace, name)
                    || (reference == Reference::Secret && self.some_volume(node, namespace, name))
            }
        }
    }

    fn some_pod(&self, node: &str, reference: Reference, namespace: &str, name: &str) -> bool {
        let pods = self
            .reader
            .list_where("", "pods", Some(namespace), "spec.nodeName", node);
        pods.iter().any(|pod| refers_to(pod, reference, name))
    }

    /// A secret that a volume of one of the node's pods names.
    fn some_volume(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.reader
            .list("", "persistentvolumes", None)
            .iter()
            .any(|volume| {
                references::volume_names_secret(volume, namespace, name)
                    && volume["metadata"]["name"]
                        .as_str()
                        .is_some_and(|volume| self.is_related(node, Reference::Volume, "", volume))
            })
    }
}

fn lease(node: &str, query: &AccessQuery<'_>) -> Decision {
    if !matches!(query.verb, "get" | "create" | "update" | "patch" | "delete") {
        return refuse("can only get, create, update, patch, or delete a node lease");
    }
    if query.namespace != LEASE_NAMESPACE {
        return refuse(format!(
            "can only access leases in the {LEASE_NAMESPACE:?} system namespace"
        ));
    }
    if query.verb != "create" && query.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    allow()
}

fn csi_node(node: &str, query: &AccessQuery<'_>) -> Decision {
    if !matches!(query.verb, "get" | "create" | "update" | "patch" | "delete") {
        return refuse("can only get, create, update, patch, or delete a CSINode");
    }
    if !query.subresource.is_empty() {
        return refuse("cannot authorize CSINode subresources");
    }
    if query.verb != "create" && query.name != node {
        return refuse("can only access CSINode with the same name as the requesting node");
    }
    allow()
}

fn own_node(node: &str, query: &AccessQuery<'_>) -> Decision {
    match (query.subresource, query.verb) {
        // Which node is NodeRestriction's matter.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        ("", "get" | "list" | "watch") if query.name == node => allow(),
        ("", "get" | "list" | "watch") if query.name.is_empty() => refuse(format!(
            "node '{node}' cannot read all nodes, only its own Node object"
        )),
        ("", "get" | "list" | "watch") => refuse(format!(
            "node '{node}' cannot read '{}', only its own Node object",
            query.name
        )),
        _ => refuse(""),
    }
}

fn selects(selector: &str, field: &str, value: &str) -> bool {
    FieldSelector::parse(selector).is_ok_and(|s| s.required_value(field) == Some(value))
}

#[cfg(test)]
mod tests;
