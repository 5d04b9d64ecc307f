//! What changed between two objects, as three sets of fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::field_set::FieldSet;
use super::path::PathElement;
use super::shape::{Node, Shape};
use crate::schema::Schema;

/// The difference of two objects; no field is in more than one set.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) added: FieldSet,
}

impl Comparison {
    /// The comparison without the fields that `reset` contains and all below them.
    pub(super) fn without(self, reset: &FieldSet) -> Comparison {
        if reset.is_empty() {
            return self;
        }
        Comparison {
            removed: self.removed.recursive_difference(reset),
            modified: self.modified.recursive_difference(reset),
            added: self.added.recursive_difference(reset),
        }
    }
}

/// Compares `old` with `new`.
///
/// # Errors
/// A list item that cannot be named.
pub(super) fn compare(
    schema: &Schema,
    node: Node,
    old: &Value,
    new: &Value,
) -> Result<Comparison, String> {
    let mut comparer = Comparer {
        schema,
        path: Vec::new(),
        found: Comparison::default(),
    };
    comparer.place(node, Some(old), Some(new))?;
    Ok(comparer.found)
}

struct Comparer<'s> {
    schema: &'s Schema,
    path: Vec<PathElement>,
    found: Comparison,
}

impl Comparer<'_> {
    fn place(
        &mut self,
        node: Node,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), String> {
        // Most of two objects is equal; nothing below an equal place has changed.
        if old == new {
            return Ok(());
        }
        let Some(decisive) = new.or(old) else {
            return Ok(());
        };
        let shape = node.shape(self.schema, decisive);
        let same = old.is_none_or(|old| node.shape(self.schema, old) == shape);
        match shape {
            Shape::List { atomic: false } if same && (!empty(old) || !empty(new)) => {
                self.items(node, old, new)?
            }
            Shape::Map { atomic: false } if same && (!empty(old) || !empty(new)) => {
                self.entries(node, old, new)?
            }
            _ => {
                self.leaf(old, new);
                return Ok(());
            }
        }
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ => {}
        }
        Ok(())
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ => self.found.modified.insert(&self.path),
        }
    }

    fn entries(
        &mut self,
        node: Node,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), String> {
        let nothing = Map::new();
        let old = old.and_then(Value::as_object).unwrap_or(&nothing);
        let new = new.and_then(Value::as_object).unwrap_or(&nothing);
        let added = new.keys().filter(|key| !old.contains_key(*key));
        for key in old.keys().chain(added) {
            let (before, after) = (old.get(key), new.get(key));
            if before != after {
                self.path.push(PathElement::Field(key.clone()));
                self.place(node.entry(self.schema, key), before, after)?;
                self.path.pop();
            }
        }
        Ok(())
    }

    fn items(
        &mut self,
        node: Node,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), String> {
        let mut by_element: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (index, item) in super::merge::list(old).iter().enumerate() {
            by_element
                .entry(self.element(node, index, item)?)
                .or_default()
                .0
                .push(item);
        }
        for (index, item) in super::merge::list(new).iter().enumerate() {
            by_element
                .entry(self.element(node, index, item)?)
                .or_default()
                .1
                .push(item);
        }
        for (element, (before, after)) in by_element {
            self.path.push(element);
            let item = node.item(self.schema);
            match (&before[..], &after[..]) {
                ([] | [_], [] | [_]) => {
                    self.place(item, before.first().copied(), after.first().copied())?;
                }
                ([_, _, ..], [_, _, ..]) => {
                    if before != after {
                        self.found.modified.insert(&self.path);
                    }
                }
                // Duplicates count as one field: it goes where single items take their place, and the other way round.
                ([_, _, ..], _) => {
                    if let Some(after) = after.first() {
                        self.place(item, None, Some(after))?;
                    }
                    self.found.removed.insert(&self.path);
                }
                _ => {
                    if let Some(before) = before.first() {
                        self.place(item, Some(before), None)?;
                    }
                    self.found.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
        Ok(())
    }

    fn element(&self, node: Node, index: usize, item: &Value) -> Result<PathElement, String> {
        node.element(self.schema, item).map_err(|error| {
            format!(
                "{}: element {index}: {error}",
                super::path::show(&self.path)
            )
        })
    }
}

fn empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}
