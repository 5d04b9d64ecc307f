//! The table of kinds: lookup by resource and by kind, and rows that come and go at run time.
//!
//! A table is cheap to clone (rows are shared), so whoever changes it at run time builds the next one beside it and swaps.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Kind, Text};

/// Groups in the order in which upstream's discovery lists them; others follow by name.
const GROUP_ORDER: [&str; 23] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
];

/// Every kind that is served.
#[derive(Debug, Clone, Default)]
pub struct KindTable {
    rows: Vec<Arc<Kind>>,
    groups: HashMap<String, GroupIndex>,
}

#[derive(Debug, Clone, Default)]
struct GroupIndex {
    by_plural: HashMap<String, Arc<Kind>>,
    by_kind: HashMap<String, Arc<Kind>>,
}

/// A row could not be added: its group already has this kind or plural name.
#[derive(Debug, thiserror::Error)]
#[error("group {group:?} already has a kind {kind:?} or a resource {plural:?}")]
pub struct KindConflict {
    pub group: String,
    pub kind: String,
    pub plural: String,
}

impl KindTable {
    /// The kinds of Kubernetes' stable groups and versions.
    pub fn builtin() -> KindTable {
        let mut table = KindTable::default();
        for kind in crate::kinds::all() {
            table.insert(kind).expect("built-in rows are unique");
        }
        table
    }

    /// The kind served at `/apis/GROUP/VERSION/PLURAL` (`/api/v1/PLURAL` for the empty group).
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let row = self.groups.get(group)?.by_plural.get(plural)?;
        row.serves(version).then_some(row)
    }

    /// The kind with this plural name, whatever versions are served.
    pub fn group_resource(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.groups.get(group)?.by_plural.get(plural)
    }

    /// The kind of this name.
    pub fn kind(&self, group: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.groups.get(group)?.by_kind.get(kind)
    }

    /// All rows, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.rows.iter()
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Groups in discovery's order, the core group first.
    pub fn groups(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.groups.keys().map(String::as_str).collect();
        let place = |name: &str| {
            GROUP_ORDER
                .iter()
                .position(|g| *g == name)
                .unwrap_or(GROUP_ORDER.len())
        };
        names.sort_by(|a, b| place(a).cmp(&place(b)).then(a.cmp(b)));
        names
    }

    /// Versions that a group serves, the preferred one first.
    pub fn versions(&self, group: &str) -> Vec<&str> {
        let Some(index) = self.groups.get(group) else {
            return Vec::new();
        };
        let mut versions: Vec<&str> = index
            .by_kind
            .values()
            .flat_map(|kind| kind.versions.iter())
            .map(Text::as_ref)
            .collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        versions.dedup();
        versions
    }

    /// Kinds served in a group and version, by plural name.
    pub fn in_version(&self, group: &str, version: &str) -> Vec<&Arc<Kind>> {
        let Some(index) = self.groups.get(group) else {
            return Vec::new();
        };
        let mut kinds: Vec<&Arc<Kind>> = index
            .by_kind
            .values()
            .filter(|kind| kind.serves(version))
            .collect();
        kinds.sort_by(|a, b| a.plural.cmp(&b.plural));
        kinds
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the group already has the kind or the plural name; remove that first to replace it.
    pub fn insert(&mut self, kind: Kind) -> Result<Arc<Kind>, KindConflict> {
        let index = self.groups.entry(kind.group.to_string()).or_default();
        if index.by_kind.contains_key(kind.kind.as_ref())
            || index.by_plural.contains_key(kind.plural.as_ref())
        {
            return Err(KindConflict {
                group: kind.group.into_owned(),
                kind: kind.kind.into_owned(),
                plural: kind.plural.into_owned(),
            });
        }
        let kind = Arc::new(kind);
        index.by_kind.insert(kind.kind.to_string(), kind.clone());
        index
            .by_plural
            .insert(kind.plural.to_string(), kind.clone());
        self.rows.push(kind.clone());
        Ok(kind)
    }

    /// Takes a row out; a group without rows is gone too.
    pub fn remove(&mut self, group: &str, kind: &str) -> Option<Arc<Kind>> {
        let index = self.groups.get_mut(group)?;
        let row = index.by_kind.remove(kind)?;
        index.by_plural.remove(row.plural.as_ref());
        if index.by_kind.is_empty() {
            self.groups.remove(group);
        }
        self.rows.retain(|r| !Arc::ptr_eq(r, &row));
        Some(row)
    }
}

/// Sort key of a version name: stable before beta before alpha, higher numbers first, other names last by alphabet.
fn version_priority(version: &str) -> (u8, u32, u32, std::cmp::Reverse<String>) {
    let parse = || -> Option<(u8, u32, u32)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let major: u32 = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (3, 0),
            tail if tail.starts_with("beta") => (2, tail[4..].parse().ok()?),
            tail if tail.starts_with("alpha") => (1, tail[5..].parse().ok()?),
            _ => return None,
        };
        Some((stage, major, minor))
    };
    match parse() {
        Some((stage, major, minor)) => (stage, major, minor, std::cmp::Reverse(String::new())),
        None => (0, 0, 0, std::cmp::Reverse(version.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_upstream() {
        let mut versions = [
            "v1alpha1",
            "v1",
            "v2",
            "foo10",
            "v11beta2",
            "v10",
            "v11alpha2",
            "v1beta1",
            "foo1",
        ];
        versions.sort_by_key(|v| std::cmp::Reverse(version_priority(v)));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v1beta1",
                "v11alpha2",
                "v1alpha1",
                "foo1",
                "foo10"
            ]
        );
    }

    #[test]
    fn rows_come_and_go() {
        let mut table = KindTable::builtin();
        let pod = table.kind("", "Pod").expect("Pod").as_ref().clone();
        assert!(
            table.insert(pod.clone()).is_err(),
            "a second row for a kind must be refused"
        );
        let custom = Kind {
            group: "example.com".into(),
            kind: "Widget".into(),
            plural: "widgets".into(),
            versions: vec!["v1".into(), "v1beta1".into()],
            ..pod
        };
        table.insert(custom).expect("new");
        assert_eq!(table.groups().last(), Some(&"example.com"));
        assert_eq!(table.versions("example.com"), ["v1", "v1beta1"]);
        assert!(table.resource("example.com", "v1", "widgets").is_some());
        assert!(table.resource("example.com", "v2", "widgets").is_none());
        table.remove("example.com", "Widget").expect("was there");
        assert!(!table.groups().contains(&"example.com"));
    }
}
