//! Who owns whom, as far as the watched resources tell. Pure: changes in, uids to look at out.
//!
//! An owner that was only heard of from a dependent is in the graph as an unobserved node until it is seen or found not
//! to exist.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{FOREGROUND, ORPHAN};

/// Which object a node stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

impl Identity {
    /// The owner behind a reference; its namespace, if its kind has one, is the dependent's.
    pub(super) fn of_owner(reference: &OwnerReference, namespace: &str) -> Self {
        let group = reference
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        Self {
            group: group.into(),
            kind: reference.kind.clone(),
            namespace: namespace.into(),
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} {}/{} ({})",
            self.group, self.kind, self.namespace, self.name, self.uid
        )
    }
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) identity: Identity,
    /// Seen on a watch, not only heard of.
    pub(super) observed: bool,
    pub(super) deleting: bool,
    foreground: bool,
    orphan: bool,
    owners: Vec<OwnerReference>,
    /// uids
    pub(super) dependents: BTreeSet<String>,
}

impl Node {
    /// It waits until its dependents are deleted.
    pub(super) fn deletes_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    /// It waits until its dependents have been let go.
    pub(super) fn orphans_dependents(&self) -> bool {
        self.deleting && self.orphan
    }

    fn blocks(&self, owner: &str) -> bool {
        self.owners
            .iter()
            .any(|r| r.uid == owner && r.block_owner_deletion == Some(true))
    }
}

/// All objects by uid.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Dependents that must be gone before the owner may go.
    pub(super) fn blocking_dependents(&self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.get(uid) else {
            return Vec::new();
        };
        let blocks =
            |dependent: &&String| self.nodes.get(*dependent).is_some_and(|n| n.blocks(uid));
        node.dependents.iter().filter(blocks).cloned().collect()
    }

    /// The object exists in this form. Answers the uids that have to be looked at.
    pub(super) fn apply(&mut self, identity: Identity, meta: &ObjectMeta) -> BTreeSet<String> {
        let mut affected = BTreeSet::new();
        let uid = identity.uid.clone();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let old = self.nodes.get(&uid).cloned();
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
        let node = Node {
            observed: true,
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
            owners: owners.clone(),
            dependents: old
                .as_ref()
                .map(|n| n.dependents.clone())
                .unwrap_or_default(),
            identity,
        };
        if node.orphans_dependents() && !old.as_ref().is_some_and(Node::orphans_dependents) {
            affected.insert(uid.clone());
        }
        if node.deletes_dependents() && !old.as_ref().is_some_and(Node::deletes_dependents) {
            affected.extend(node.dependents.iter().cloned());
            affected.insert(uid.clone());
        }
        if old
            .as_ref()
            .is_some_and(|old| !old.observed && old.identity.namespace != node.identity.namespace)
        {
            // Dependents in other namespaces referred to an owner that is not in theirs.
            affected.extend(node.dependents.iter().cloned());
        }
        let namespace = node.identity.namespace.clone();
        self.nodes.insert(uid.clone(), node);
        let former = old.map(|old| old.owners).unwrap_or_default();
        self.link(&uid, &namespace, &owners, &former, &mut affected);
        self.unlink(&uid, &owners, &former, &mut affected);
        affected
    }

    fn link(
        &mut self,
        uid: &str,
        namespace: &str,
        owners: &[OwnerReference],
        former: &[OwnerReference],
        affected: &mut BTreeSet<String>,
    ) {
        for reference in owners
            .iter()
            .filter(|r| former.iter().all(|f| f.uid != r.uid))
        {
            let claimed = Identity::of_owner(reference, namespace);
            let owner = self.nodes.entry(reference.uid.clone()).or_insert_with(|| {
                // Heard of for the first time: it has to be verified.
                affected.insert(reference.uid.clone());
                Node {
                    identity: claimed.clone(),
                    observed: false,
                    deleting: false,
                    foreground: false,
                    orphan: false,
                    owners: Vec::new(),
                    dependents: BTreeSet::new(),
                }
            });
            owner.dependents.insert(uid.to_owned());
            let actual = &owner.identity;
            let elsewhere = !actual.namespace.is_empty() && actual.namespace != claimed.namespace;
            if actual.kind != claimed.kind
                || actual.group != claimed.group
                || actual.name != claimed.name
                || elsewhere
            {
                affected.insert(uid.to_owned());
            }
            if owner.deletes_dependents() {
                affected.insert(uid.to_owned());
            }
        }
    }

    fn unlink(
        &mut self,
        uid: &str,
        owners: &[OwnerReference],
        former: &[OwnerReference],
        affected: &mut BTreeSet<String>,
    ) {
        for reference in former {
            let now = owners.iter().find(|r| r.uid == reference.uid);
            let still_blocks = now.is_some_and(|r| r.block_owner_deletion == Some(true));
            let Some(owner) = self.nodes.get_mut(&reference.uid) else {
                continue;
            };
            if now.is_none() {
                owner.dependents.remove(uid);
            }
            if owner.deletes_dependents() && !still_blocks {
                affected.insert(reference.uid.clone());
            }
            if !owner.observed && owner.dependents.is_empty() {
                self.nodes.remove(&reference.uid);
            }
        }
    }

    /// The object does not exist (any more). Answers the uids that have to be looked at.
    pub(super) fn remove(&mut self, uid: &str) -> BTreeSet<String> {
        let Some(node) = self.nodes.remove(uid) else {
            return BTreeSet::new();
        };
        let mut affected = BTreeSet::new();
        self.unlink(uid, &[], &node.owners, &mut affected);
        affected.extend(node.dependents);
        affected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(graph: &mut Graph, uid: &str, namespace: &str, meta: serde_json::Value) -> String {
        let identity = Identity {
            group: String::new(),
            kind: "ConfigMap".into(),
            namespace: namespace.into(),
            name: uid.into(),
            uid: uid.into(),
        };
        let meta: ObjectMeta = serde_json::from_value(meta).expect("metadata");
        graph
            .apply(identity, &meta)
            .into_iter()
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn owned_by(uid: &str, blocks: bool) -> serde_json::Value {
        json!({"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid, "blockOwnerDeletion": blocks}]})
    }

    fn deleting(finalizer: &str) -> serde_json::Value {
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer]})
    }

    #[test]
    fn dependents_of_a_deleted_owner_are_looked_at() {
        let mut graph = Graph::default();
        assert_eq!(apply(&mut graph, "owner", "ns", json!({})), "");
        assert_eq!(
            apply(&mut graph, "child", "ns", owned_by("owner", false)),
            ""
        );
        assert_eq!(graph.remove("owner"), BTreeSet::from(["child".to_owned()]));
    }

    #[test]
    fn an_owner_that_was_only_heard_of_is_verified() {
        let mut graph = Graph::default();
        assert_eq!(
            apply(&mut graph, "child", "ns", owned_by("owner", false)),
            "owner"
        );
        assert!(!graph.get("owner").expect("known").observed);
        assert_eq!(apply(&mut graph, "owner", "ns", json!({})), "");
        assert_eq!(graph.get("owner").expect("known").dependents.len(), 1);
    }

    #[test]
    fn an_owner_in_another_namespace_is_none() {
        let mut graph = Graph::default();
        apply(&mut graph, "owner", "other", json!({}));
        assert_eq!(
            apply(&mut graph, "child", "ns", owned_by("owner", false)),
            "child"
        );
    }

    #[test]
    fn a_foreground_deletion_waits_for_what_blocks_it() {
        let mut graph = Graph::default();
        apply(&mut graph, "owner", "ns", json!({}));
        apply(&mut graph, "blocking", "ns", owned_by("owner", true));
        apply(&mut graph, "free", "ns", owned_by("owner", false));
        assert_eq!(
            apply(&mut graph, "owner", "ns", deleting(FOREGROUND)),
            "blocking free owner"
        );
        assert_eq!(graph.blocking_dependents("owner"), ["blocking"]);
        assert_eq!(
            graph.remove("blocking"),
            BTreeSet::from(["owner".to_owned()])
        );
        assert!(graph.blocking_dependents("owner").is_empty());
    }

    #[test]
    fn orphaning_is_noticed_once() {
        let mut graph = Graph::default();
        apply(&mut graph, "owner", "ns", json!({}));
        assert_eq!(apply(&mut graph, "owner", "ns", deleting(ORPHAN)), "owner");
        assert_eq!(apply(&mut graph, "owner", "ns", deleting(ORPHAN)), "");
    }
}
