//! Merges an applied configuration into a live object, and takes fields out of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::field_set::FieldSet;
use super::path::PathElement;
use super::shape::{Node, Shape};
use crate::schema::Schema;

/// The live object with everything that the configuration states; nothing is removed.
///
/// # Errors
/// A list item that cannot be named, or named twice in the configuration.
pub(super) fn merge(
    schema: &Schema,
    node: Node,
    live: &Value,
    config: &Value,
) -> Result<Value, String> {
    let merged = place(schema, node, Some(live), Some(config))?;
    Ok(merged.unwrap_or_else(|| Value::Object(Map::new())))
}

fn place(
    schema: &Schema,
    node: Node,
    live: Option<&Value>,
    config: Option<&Value>,
) -> Result<Option<Value>, String> {
    let (Some(decisive), Some(other)) = (config.or(live), live.or(config)) else {
        return Ok(None);
    };
    let shape = node.shape(schema, decisive);
    let same = node.shape(schema, other) == shape;
    match shape {
        Shape::List { atomic: false } if same => {
            let (live, config) = (list(live), list(config));
            if !live.is_empty() || !config.is_empty() {
                let items = items(schema, node, live, config)?;
                return Ok((!items.is_empty()).then_some(Value::Array(items)));
            }
        }
        Shape::Map { atomic: false } if same => {
            let nothing = Map::new();
            let live = live.and_then(Value::as_object).unwrap_or(&nothing);
            let config = config.and_then(Value::as_object).unwrap_or(&nothing);
            if !live.is_empty() || !config.is_empty() {
                let mut out = Map::new();
                let added = config.keys().filter(|key| !live.contains_key(*key));
                for key in live.keys().chain(added) {
                    let merged = place(
                        schema,
                        node.entry(schema, key),
                        live.get(key),
                        config.get(key),
                    )?;
                    if let Some(value) = merged {
                        out.insert(key.clone(), value);
                    }
                }
                return Ok((!out.is_empty()).then_some(Value::Object(out)));
            }
        }
        _ => {}
    }
    Ok(Some(decisive.clone()))
}

/// The items of a list; none if there is none.
pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The items' names in order, and the item of each name; none where several share it.
type Indexed<'v> = (Vec<PathElement>, BTreeMap<PathElement, Option<&'v Value>>);

fn index<'v>(
    schema: &Schema,
    node: Node,
    items: &'v [Value],
    duplicates: bool,
) -> Result<Indexed<'v>, String> {
    let mut elements = Vec::with_capacity(items.len());
    let mut by_element = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let element = node
            .element(schema, item)
            .map_err(|error| format!("element {index}: {error}"))?;
        match by_element.contains_key(&element) {
            false => by_element.insert(element.clone(), Some(item)),
            // Duplicates of the live object are not merged into.
            true if duplicates => by_element.insert(element.clone(), None),
            true => return Err(format!("duplicate entries for key {element}")),
        };
        elements.push(element);
    }
    Ok((elements, by_element))
}

/// Merges associative lists. Items of both come in the configuration's order; those of the live object alone keep their
/// place between them.
fn items(
    schema: &Schema,
    node: Node,
    live: &[Value],
    config: &[Value],
) -> Result<Vec<Value>, String> {
    let (config_order, config_items) = index(schema, node, config, false)?;
    let (live_order, live_items) = index(schema, node, live, true)?;
    let item = node.item(schema);
    let mut shared = config_order
        .iter()
        .filter(|element| live_items.contains_key(element))
        .peekable();
    let mut merged: BTreeSet<&PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let both = |element: &PathElement| {
        let live = live_items.get(element).copied().flatten();
        place(
            schema,
            item,
            live,
            config_items.get(element).copied().flatten(),
        )
    };
    let (mut l, mut c) = (0, 0);
    while l < live_order.len() || c < config_order.len() {
        if let (Some(left), Some(right)) = (live_order.get(l), config_order.get(c)) {
            if left == right {
                merged.insert(right);
                out.extend(both(right)?);
                l += 1;
                c += 1;
                shared.next();
                continue;
            }
            // A shared item, but not the one whose turn it is.
            if config_items.contains_key(left) && shared.peek().is_some_and(|next| *next != left) {
                l += 1;
                continue;
            }
        }
        if let Some(left) = live_order.get(l) {
            if !config_items.contains_key(left) {
                out.extend(place(schema, item, Some(&live[l]), None)?);
                l += 1;
                continue;
            }
            if merged.contains(left) {
                l += 1;
            }
        }
        if let Some(right) = config_order.get(c) {
            merged.insert(right);
            out.extend(both(right)?);
            c += 1;
            shared.next_if(|next| *next == right);
        }
    }
    Ok(out)
}

/// The object without the fields of `set`. Containers that lose everything stay, empty.
pub(super) fn remove(schema: &Schema, node: Node, value: &Value, set: &FieldSet) -> Value {
    match (node.shape(schema, value), value) {
        (Shape::List { atomic: false }, Value::Array(items)) => {
            let kept = items
                .iter()
                .filter_map(|item| match node.element(schema, item) {
                    Ok(element) => remove_child(schema, node.item(schema), item, set, &element),
                    Err(_) => Some(item.clone()),
                });
            Value::Array(kept.collect())
        }
        (Shape::Map { atomic: false }, Value::Object(map)) => {
            let kept = map.iter().filter_map(|(key, value)| {
                let element = PathElement::Field(key.clone());
                let kept = remove_child(schema, node.entry(schema, key), value, set, &element)?;
                Some((key.clone(), kept))
            });
            Value::Object(kept.collect())
        }
        _ => value.clone(),
    }
}

fn remove_child(
    schema: &Schema,
    node: Node,
    value: &Value,
    set: &FieldSet,
    element: &PathElement,
) -> Option<Value> {
    match set.get(element) {
        None => Some(value.clone()),
        Some(entry) if entry.member => None,
        Some(entry) if entry.below.is_empty() => Some(value.clone()),
        Some(entry) => match node.shape(schema, value) {
            // What is below a field that is merged as a whole cannot be taken out of it.
            Shape::List { atomic: true } => Some(Value::Array(Vec::new())),
            Shape::Map { atomic: true } => Some(Value::Object(Map::new())),
            _ => Some(remove(schema, node, value, &entry.below)),
        },
    }
}
