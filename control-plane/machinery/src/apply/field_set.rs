//! Sets of fields, as trees, with the operations that ownership needs and their `fieldsV1` form.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::PathElement;
use super::shape::Node;
use crate::schema::Schema;

/// A set of fields. A field may be a member, have members below it, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<PathElement, Entry>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) member: bool,
    pub(super) below: FieldSet,
}

impl FieldSet {
    /// A set of paths of plain fields.
    pub fn of_fields(paths: &[&[&str]]) -> FieldSet {
        let mut set = FieldSet::default();
        for path in paths {
            let path: Vec<PathElement> = path
                .iter()
                .map(|name| PathElement::Field((*name).to_owned()))
                .collect();
            set.insert(&path);
        }
        set
    }

    /// Adds the field at `path`; the whole object, the empty path, is owned by nobody.
    pub(super) fn insert(&mut self, path: &[PathElement]) {
        if let Some((last, parents)) = path.split_last() {
            let mut set = self;
            for parent in parents {
                set = &mut set.entry(parent.clone()).below;
            }
            set.entry(last.clone()).member = true;
        }
    }

    pub(super) fn entry(&mut self, element: PathElement) -> &mut Entry {
        self.0.entry(element).or_default()
    }

    pub(super) fn get(&self, element: &PathElement) -> Option<&Entry> {
        self.0.get(element)
    }

    pub fn is_empty(&self) -> bool {
        self.0
            .values()
            .all(|entry| !entry.member && entry.below.is_empty())
    }

    /// Whether the field at `path` is a member.
    pub fn contains(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|entry| entry.member),
            [first, rest @ ..] => self
                .get(first)
                .is_some_and(|entry| entry.below.contains(rest)),
        }
    }

    pub(super) fn union(mut self, other: &FieldSet) -> FieldSet {
        for (element, theirs) in &other.0 {
            let ours = self.entry(element.clone());
            ours.member |= theirs.member;
            ours.below = std::mem::take(&mut ours.below).union(&theirs.below);
        }
        self
    }

    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.combine(|element, ours| {
            other.get(element).map(|theirs| Entry {
                member: ours.member && theirs.member,
                below: ours.below.intersection(&theirs.below),
            })
        })
    }

    /// The members that are not in `other`; a parent in `other` does not take its children away.
    pub(super) fn difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(|element, ours| match other.get(element) {
            None => Some(ours.clone()),
            Some(theirs) => Some(Entry {
                member: ours.member && !theirs.member,
                below: ours.below.difference(&theirs.below),
            }),
        })
    }

    /// The members that are not in `other`, nor below a member of it.
    pub(super) fn recursive_difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(|element, ours| match other.get(element) {
            None => Some(ours.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Entry {
                member: ours.member,
                below: ours.below.recursive_difference(&theirs.below),
            }),
        })
    }

    fn combine(&self, entry: impl Fn(&PathElement, &Entry) -> Option<Entry>) -> FieldSet {
        let entries = self.0.iter().filter_map(|(element, ours)| {
            let combined = entry(element, ours)?;
            (combined.member || !combined.below.is_empty()).then(|| (element.clone(), combined))
        });
        FieldSet(entries.collect())
    }

    /// The set with every struct field that has members below it as a member too.
    pub(super) fn with_named_fields(&self, schema: &Schema, node: Node) -> FieldSet {
        let entries = self.0.iter().map(|(element, ours)| {
            let named = matches!(element, PathElement::Field(name) if node.declares(schema, name));
            let entry = Entry {
                member: ours.member || (named && !ours.below.is_empty()),
                below: ours
                    .below
                    .with_named_fields(schema, node.child(schema, element)),
            };
            (element.clone(), entry)
        });
        FieldSet(entries.collect())
    }

    /// Every member's path, those of a level before those below it.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, found: &mut Vec<Vec<PathElement>>) {
        for (element, _) in self.0.iter().filter(|(_, entry)| entry.member) {
            let mut path = prefix.clone();
            path.push(element.clone());
            found.push(path);
        }
        for (element, entry) in &self.0 {
            prefix.push(element.clone());
            entry.below.collect(prefix, found);
            prefix.pop();
        }
    }

    /// The set as `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (element, entry) in &self.0 {
            let mut below = Map::new();
            if let Value::Object(inner) = entry.below.to_json() {
                if entry.member && !inner.is_empty() {
                    below.insert(".".to_owned(), Value::Object(Map::new()));
                }
                below.extend(inner);
            }
            if entry.member || !below.is_empty() {
                map.insert(element.encode(), Value::Object(below));
            }
        }
        Value::Object(map)
    }

    /// Reads `fieldsV1`.
    ///
    /// # Errors
    /// What is wrong with a path element.
    pub fn from_json(value: &Value) -> Result<FieldSet, String> {
        let mut set = FieldSet::default();
        for (key, inner) in value.as_object().into_iter().flatten() {
            if key == "." {
                continue;
            }
            let Some(element) = PathElement::decode(key)? else {
                continue;
            };
            let below = FieldSet::from_json(inner)?;
            // An element without anything below it is a member itself.
            let member = below.is_empty() || inner.get(".").is_some();
            set.0.insert(element, Entry { member, below });
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    type Paths = BTreeSet<Vec<PathElement>>;

    fn paths() -> impl Strategy<Value = Paths> {
        let element = prop_oneof![
            "[ab]".prop_map(PathElement::Field),
            (0i64..2).prop_map(PathElement::Index),
        ];
        proptest::collection::btree_set(proptest::collection::vec(element, 1..4), 0..8)
    }

    fn set(paths: &Paths) -> FieldSet {
        let mut set = FieldSet::default();
        paths.iter().for_each(|path| set.insert(path));
        set
    }

    fn members(set: &FieldSet) -> Paths {
        set.paths().into_iter().collect()
    }

    proptest! {
        /// The tree behaves as a set of paths, and survives its JSON form.
        #[test]
        fn is_a_set(a in paths(), b in paths()) {
            let (x, y) = (set(&a), set(&b));
            prop_assert_eq!(members(&x), a.clone());
            prop_assert_eq!(members(&x.clone().union(&y)), a.union(&b).cloned().collect::<Paths>());
            prop_assert_eq!(members(&x.intersection(&y)), a.intersection(&b).cloned().collect::<Paths>());
            prop_assert_eq!(members(&x.difference(&y)), a.difference(&b).cloned().collect::<Paths>());
            let above = |path: &Vec<PathElement>| b.iter().any(|other| path.starts_with(other));
            let left: Paths = a.iter().filter(|path| !above(path)).cloned().collect();
            prop_assert_eq!(members(&x.recursive_difference(&y)), left);
            prop_assert_eq!(FieldSet::from_json(&x.to_json()), Ok(x));
        }
    }

    #[test]
    fn reads_and_writes_fields_v1() {
        let stored = json!({"f:metadata": {"f:labels": {".": {}, "f:a:b": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
                "f:set": {"v:\"x\"": {}, "v:3": {}}}});
        let set = FieldSet::from_json(&stored).expect("valid");
        assert_eq!(set.to_json(), stored);
        let shown: Vec<String> = set
            .paths()
            .iter()
            .map(|path| crate::apply::path::show(path))
            .collect();
        assert_eq!(
            shown,
            [
                ".metadata.labels",
                ".metadata.labels.a:b",
                ".spec.ports[port=80,protocol=\"TCP\"]",
                ".spec.ports[port=80,protocol=\"TCP\"].port",
                ".spec.set[=3]",
                ".spec.set[=\"x\"]",
            ]
        );
        assert!(FieldSet::from_json(&json!({"bad": {}})).is_err());
        assert_eq!(
            FieldSet::from_json(&json!({"z:future": {}})),
            Ok(FieldSet::default())
        );
    }
}
