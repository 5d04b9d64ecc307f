//! Roles and bindings, compiled for lookups by subject, and the decisions taken from them.
//!
//! Compiled again when one of the four kinds has changed; a decision then reads nothing but the compiled form.

use std::collections::HashMap;
use std::sync::Arc;

use api_machinery::go_quote;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;

use super::rule::PolicyRule;
use crate::authz::AccessQuery;
use crate::identity::{Decision, UserInfo};
use crate::plugin::ObjectReader;

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";
const KINDS: [&str; 4] = [
    "clusterroles",
    "roles",
    "clusterrolebindings",
    "rolebindings",
];
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoleRef {
    #[serde(default)]
    pub(super) api_group: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// Bindings by the subject's name.
#[derive(Default)]
struct Bindings {
    users: HashMap<String, Vec<Binding>>,
    groups: HashMap<String, Vec<Binding>>,
}

impl Bindings {
    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Binding> {
        let groups = user
            .groups
            .iter()
            .filter_map(|group| self.groups.get(group));
        self.users
            .get(&user.name)
            .into_iter()
            .chain(groups)
            .flatten()
    }
}

struct Binding {
    /// Empty for a ClusterRoleBinding.
    namespace: String,
    name: String,
    role: RoleRef,
    /// As reasons show the subject, e.g. `User "a"`.
    subject: String,
}

#[derive(Default)]
struct Compiled {
    /// Newest change of each of [`KINDS`] that went into this.
    changed: [u64; 4],
    cluster_roles: HashMap<String, Arc<[PolicyRule]>>,
    roles: HashMap<(String, String), Arc<[PolicyRule]>>,
    cluster_bindings: Bindings,
    bindings: HashMap<String, Bindings>,
}

/// The RBAC authorizer. Cheap to clone.
#[derive(Clone)]
pub struct Rbac {
    reader: Arc<dyn ObjectReader>,
    compiled: Arc<RwLock<Arc<Compiled>>>,
}

impl Rbac {
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        // No cache has revision MAX, so that the first question compiles.
        let nothing = Compiled {
            changed: [u64::MAX; 4],
            ..Compiled::default()
        };
        Self {
            reader,
            compiled: Arc::new(RwLock::new(Arc::new(nothing))),
        }
    }

    fn compiled(&self) -> Arc<Compiled> {
        let changed = KINDS.map(|kind| self.reader.changed(GROUP, kind));
        let held = self.compiled.read().clone();
        if held.changed == changed {
            return held;
        }
        let mut slot = self.compiled.write();
        if slot.changed != changed {
            // Read after `changed`: newer objects may be in it already, older ones cannot be missed.
            *slot = Arc::new(Compiled::new(&*self.reader, changed));
        }
        slot.clone()
    }

    /// Allows by the first rule that does; never denies.
    pub fn decide(&self, user: &UserInfo, query: &AccessQuery<'_>) -> Decision {
        let compiled = self.compiled();
        let mut missing = Vec::new();
        for binding in compiled.bindings_of(user, query.namespace) {
            match compiled.rules_of(&binding.role, &binding.namespace) {
                Some(rules) if rules.iter().any(|rule| rule.allows(query)) => {
                    return Decision::allow(format!("RBAC: allowed by {}", binding.describe()));
                }
                Some(_) => {}
                None => missing.push(not_found(&binding.role)),
            }
        }
        match missing.as_slice() {
            [] => Decision::no_opinion(""),
            [one] => Decision::no_opinion(format!("RBAC: {one}")),
            several => Decision::no_opinion(format!("RBAC: [{}]", several.join(", "))),
        }
    }

    /// All rules that apply to a user in a namespace (empty: cluster-wide ones only), and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let compiled = self.compiled();
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for binding in compiled.bindings_of(user, namespace) {
            match compiled.rules_of(&binding.role, &binding.namespace) {
                Some(found) => rules.extend(found.iter().cloned()),
                None => errors.push(not_found(&binding.role)),
            }
        }
        (rules, errors)
    }

    /// The rules of the role that a binding in `namespace` names; none if there is no such role.
    pub(super) fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[PolicyRule]>> {
        self.compiled().rules_of(role, namespace).cloned()
    }
}

pub(super) fn not_found(role: &RoleRef) -> String {
    format!(
        "{}.{GROUP} {} not found",
        role.kind.to_ascii_lowercase(),
        go_quote(&role.name)
    )
}

impl Binding {
    fn describe(&self) -> String {
        let (kind, name) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", go_quote(&self.name)),
            namespace => (
                "RoleBinding",
                go_quote(&format!("{}/{namespace}", self.name)),
            ),
        };
        format!(
            "{kind} {name} of {} {} to {}",
            self.role.kind,
            go_quote(&self.role.name),
            self.subject
        )
    }
}

impl Compiled {
    fn new(reader: &dyn ObjectReader, changed: [u64; 4]) -> Self {
        let mut compiled = Self {
            changed,
            ..Self::default()
        };
        for role in reader.list(GROUP, "clusterroles", None) {
            compiled
                .cluster_roles
                .insert(text(&role, "/metadata/name").into(), rules_in(&role));
        }
        for role in reader.list(GROUP, "roles", None) {
            let key = (
                text(&role, "/metadata/namespace").into(),
                text(&role, "/metadata/name").into(),
            );
            compiled.roles.insert(key, rules_in(&role));
        }
        for binding in reader.list(GROUP, "clusterrolebindings", None) {
            add_binding(&mut compiled.cluster_bindings, &binding, "");
        }
        for binding in reader.list(GROUP, "rolebindings", None) {
            let namespace = text(&binding, "/metadata/namespace");
            add_binding(
                compiled.bindings.entry(namespace.into()).or_default(),
                &binding,
                namespace,
            );
        }
        compiled
    }

    fn bindings_of<'a>(
        &'a self,
        user: &'a UserInfo,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Binding> {
        let here = self
            .bindings
            .get(namespace)
            .filter(|_| !namespace.is_empty());
        std::iter::once(&self.cluster_bindings)
            .chain(here)
            .flat_map(|table| table.of(user))
    }

    fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<&Arc<[PolicyRule]>> {
        match role.kind.as_str() {
            "ClusterRole" => self.cluster_roles.get(&role.name),
            _ => self.roles.get(&(namespace.to_owned(), role.name.clone())),
        }
    }
}

fn add_binding(table: &mut Bindings, object: &Value, namespace: &str) {
    let Ok(role) = RoleRef::deserialize(&object["roleRef"]) else {
        return;
    };
    for subject in object["subjects"].as_array().into_iter().flatten() {
        let name = text(subject, "/name");
        let (list, described) = match text(subject, "/kind") {
            "User" => (
                table.users.entry(name.into()),
                format!("User {}", go_quote(name)),
            ),
            "Group" => (
                table.groups.entry(name.into()),
                format!("Group {}", go_quote(name)),
            ),
            "ServiceAccount" => {
                let of = Some(text(subject, "/namespace"))
                    .filter(|n| !n.is_empty())
                    .unwrap_or(namespace);
                if of.is_empty() {
                    continue;
                }
                let described = format!("ServiceAccount {}", go_quote(&format!("{name}/{of}")));
                (
                    table
                        .users
                        .entry(format!("{SERVICE_ACCOUNT_PREFIX}{of}:{name}")),
                    described,
                )
            }
            _ => continue,
        };
        list.or_default().push(Binding {
            namespace: namespace.into(),
            name: text(object, "/metadata/name").into(),
            role: role.clone(),
            subject: described,
        });
    }
}

pub(super) fn rules_in(role: &Value) -> Arc<[PolicyRule]> {
    Vec::<PolicyRule>::deserialize(&role["rules"])
        .unwrap_or_default()
        .into()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
