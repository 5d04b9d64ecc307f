//! A kind: everything about a type of object that is not in its schema or its rules.
//!
//! One row per (group, kind). The request pipeline, discovery, the store's keys and the watch caches all read rows; nothing
//! branches on a kind's name. Rows are data and may be made at run time, so that custom resources are rows like others.

mod table;
mod verbs;

use std::borrow::Cow;

pub use table::{KindConflict, KindTable};
pub use verbs::{Verb, Verbs};

/// Text of a row: static for built-in kinds, owned for those added at run time.
pub type Text = Cow<'static, str>;

/// Where every object lies in the store.
pub const STORAGE_ROOT: &str = "/registry";

/// One row of the table of kinds.
#[derive(Debug, Clone)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: Text,
    pub kind: Text,
    pub list_kind: Text,
    /// The resource's name in URLs.
    pub plural: Text,
    pub singular: Text,
    pub short_names: Vec<Text>,
    pub categories: Vec<Text>,
    pub namespaced: bool,
    /// Served versions, the preferred one first.
    pub versions: Vec<Text>,
    /// Group and version in which objects are stored; the group differs for the second name of a shared storage.
    pub storage_group: Text,
    pub storage_version: Text,
    /// The version that discovery's storage hash is made of, where upstream's differs from `storage_version`.
    pub hash_version: Option<Text>,
    pub verbs: Verbs,
    pub subresources: Vec<Subresource>,
    /// Key prefix without a slash at its end (`/registry/pods`); `None` for kinds that are not stored.
    pub storage_prefix: Option<Text>,
    /// Whether `metadata.generation` counts changes of what is desired.
    pub generation: bool,
    /// Field selectors beside `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<SelectableField>,
    /// What an unsupported field selector is told.
    pub field_selector_errors: FieldSelectorErrors,
}

/// A subresource such as `status`, `scale` or `log`.
#[derive(Debug, Clone)]
pub struct Subresource {
    pub name: Text,
    pub verbs: Verbs,
    /// Group of the body's kind where it differs from the parent's (`autoscaling` for `scale`).
    pub group: Option<Text>,
    pub version: Option<Text>,
    /// Kind of the body.
    pub kind: Text,
}

/// A field by which lists and watches may be filtered.
#[derive(Debug, Clone)]
pub struct SelectableField {
    /// The name in the field selector.
    pub label: Text,
    /// Paths in the stored form (dots between names); the first that is set and not empty counts.
    pub paths: Vec<Text>,
    /// The field's value where no path is set.
    pub absent: Text,
}

/// Upstream words the refusal of a field selector in three ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldSelectorErrors {
    /// Kinds without own fields.
    OnlyMetadata,
    /// Kinds with own fields.
    NotSupported,
    /// `Job`, which names itself.
    NotSupportedForKind,
}

impl Kind {
    /// Whether `version` of the API shows this kind.
    pub fn serves(&self, version: &str) -> bool {
        self.versions.iter().any(|v| v == version)
    }

    /// The subresource called `name`.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether status is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether objects of this kind are kept in the store.
    pub fn is_stored(&self) -> bool {
        self.storage_prefix.is_some()
    }

    /// `apiVersion` for a served version: `v1`, `apps/v1`.
    pub fn api_version(&self, version: &str) -> String {
        group_version(&self.group, version)
    }

    /// `apiVersion` of the stored form.
    pub fn storage_api_version(&self) -> String {
        group_version(&self.storage_group, &self.storage_version)
    }

    /// The resource as messages name it: `deployments.apps`, `pods`.
    pub fn qualified_resource(&self) -> String {
        match self.group.as_ref() {
            "" => self.plural.to_string(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The store's key of an object. `namespace` is empty for cluster-scoped kinds.
    ///
    /// Returns `None` for kinds that are not stored.
    pub fn storage_key(&self, namespace: &str, name: &str) -> Option<String> {
        let prefix = self.storage_prefix.as_ref()?;
        let mut key = String::with_capacity(prefix.len() + namespace.len() + name.len() + 2);
        key.push_str(prefix);
        if self.namespaced {
            key.push('/');
            key.push_str(namespace);
        }
        key.push('/');
        key.push_str(name);
        Some(key)
    }

    /// The store's key prefix, with its slash, of all objects or of those in one namespace.
    ///
    /// Returns `None` for kinds that are not stored.
    pub fn storage_list_prefix(&self, namespace: Option<&str>) -> Option<String> {
        let prefix = self.storage_prefix.as_ref()?;
        Some(match namespace {
            Some(namespace) if self.namespaced => format!("{prefix}/{namespace}/"),
            _ => format!("{prefix}/"),
        })
    }

    /// Splits a key below this kind's prefix into namespace (empty for cluster-scoped kinds) and name.
    pub fn parse_storage_key<'k>(&self, key: &'k str) -> Option<(&'k str, &'k str)> {
        let rest = key
            .strip_prefix(self.storage_prefix.as_ref()?.as_ref())?
            .strip_prefix('/')?;
        if self.namespaced {
            rest.split_once('/')
        } else {
            Some(("", rest))
        }
    }

    /// The selectable field called `label`, `metadata.*` included.
    ///
    /// # Errors
    /// Upstream's sentence when the kind cannot be filtered by it; the caller answers 400.
    pub fn selectable_field(&self, label: &str) -> Result<FieldRef<'_>, String> {
        match label {
            "metadata.name" => return Ok(FieldRef::Name),
            "metadata.namespace" => return Ok(FieldRef::Namespace),
            _ => {}
        }
        if let Some(field) = self.selectable_fields.iter().find(|f| f.label == label) {
            return Ok(FieldRef::Field(field));
        }
        Err(match self.field_selector_errors {
            FieldSelectorErrors::OnlyMetadata => format!(
                "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                crate::status::go_quote(label)
            ),
            FieldSelectorErrors::NotSupported => format!("field label not supported: {label}"),
            FieldSelectorErrors::NotSupportedForKind => {
                format!(
                    "field label {} not supported for {}",
                    crate::status::go_quote(label),
                    self.kind
                )
            }
        })
    }
}

/// What a field selector's label stands for.
#[derive(Debug, Clone, Copy)]
pub enum FieldRef<'a> {
    Name,
    Namespace,
    Field(&'a SelectableField),
}

/// `apiVersion` of a group and version.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_upstreams() {
        let table = KindTable::builtin();
        for (group, kind, namespace, name, expected) in [
            ("", "Pod", "default", "web", "/registry/pods/default/web"),
            (
                "",
                "Service",
                "default",
                "web",
                "/registry/services/specs/default/web",
            ),
            (
                "",
                "Endpoints",
                "default",
                "web",
                "/registry/services/endpoints/default/web",
            ),
            ("", "Node", "", "n1", "/registry/minions/n1"),
            (
                "",
                "ReplicationController",
                "default",
                "web",
                "/registry/controllers/default/web",
            ),
            (
                "apps",
                "Deployment",
                "default",
                "web",
                "/registry/deployments/default/web",
            ),
            (
                "networking.k8s.io",
                "Ingress",
                "default",
                "web",
                "/registry/ingress/default/web",
            ),
            (
                "events.k8s.io",
                "Event",
                "default",
                "e",
                "/registry/events/default/e",
            ),
            (
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                "",
                "x.example.com",
                "/registry/apiextensions.k8s.io/customresourcedefinitions/x.example.com",
            ),
        ] {
            let row = table.kind(group, kind).expect(kind);
            let key = row.storage_key(namespace, name).expect("stored");
            assert_eq!(key, expected);
            assert_eq!(row.parse_storage_key(&key), Some((namespace, name)));
        }
    }

    #[test]
    fn field_selectors_are_refused_in_upstreams_words() {
        let table = KindTable::builtin();
        let refusal = |group, kind, label| {
            table
                .kind(group, kind)
                .expect(kind)
                .selectable_field(label)
                .map(|_| ())
                .expect_err("unsupported")
        };
        assert_eq!(
            refusal("", "ConfigMap", "a"),
            r#""a" is not a known field selector: only "metadata.name", "metadata.namespace""#
        );
        assert_eq!(refusal("", "Pod", "a"), "field label not supported: a");
        assert_eq!(
            refusal("batch", "Job", "a"),
            r#"field label "a" not supported for Job"#
        );
        assert!(
            table
                .kind("", "Pod")
                .expect("Pod")
                .selectable_field("spec.nodeName")
                .is_ok()
        );
    }
}
