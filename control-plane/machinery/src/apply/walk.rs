//! Walks over one object: which fields it states, and whether it fits its schema.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::field_set::{Entry, FieldSet};
use super::path::PathElement;
use super::shape::{Node, Shape};
use crate::schema::Schema;

/// Every field that the object states: leaves, items of associative lists, entries of maps, empty structs.
pub(super) fn fields_of(schema: &Schema, node: Node, value: &Value) -> FieldSet {
    let mut root = Entry::default();
    collect(schema, node, value, &mut root);
    root.below
}

fn collect(schema: &Schema, node: Node, value: &Value, entry: &mut Entry) {
    match (node.shape(schema, value), value) {
        (Shape::Scalar | Shape::List { atomic: true } | Shape::Map { atomic: true }, _) => {
            entry.member = true
        }
        (Shape::List { .. }, Value::Array(items)) => {
            let mut seen: BTreeMap<PathElement, usize> = BTreeMap::new();
            let elements: Vec<_> = items
                .iter()
                .map(|item| node.element(schema, item).ok())
                .collect();
            for element in elements.iter().flatten() {
                *seen.entry(element.clone()).or_default() += 1;
            }
            for (item, element) in items.iter().zip(elements) {
                let Some(element) = element else { continue };
                let unique = seen.get(&element) == Some(&1);
                let child = entry.below.entry(element);
                // Duplicates are owned as a whole.
                if unique {
                    collect(schema, node.item(schema), item, child);
                }
                child.member = true;
            }
        }
        (Shape::Map { .. }, Value::Object(map)) => {
            for (key, value) in map {
                let child = entry.below.entry(PathElement::Field(key.clone()));
                collect(schema, node.entry(schema, key), value, child);
                let empty = value.is_null() || value.as_object().is_some_and(|map| map.is_empty());
                child.member |= empty || !node.declares(schema, key);
            }
        }
        _ => {}
    }
}

/// What does not fit the schema, each with its path: `.spec.foo: field not declared in schema`.
pub(super) fn validate(schema: &Schema, node: Node, value: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    check(schema, node, value, &mut Vec::new(), &mut errors);
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(format!("errors:\n  {}", errors.join("\n  "))),
    }
}

fn check(
    schema: &Schema,
    node: Node,
    value: &Value,
    path: &mut Vec<PathElement>,
    errors: &mut Vec<String>,
) {
    let report = |path: &[PathElement], text: String| match super::path::show(path) {
        path if path.is_empty() => text,
        path => format!("{path}: {text}"),
    };
    match (node.shape(schema, value), value) {
        (_, Value::Null) => {}
        (Shape::Scalar, value) => {
            let fits = match node.scalar() {
                Some("numeric") => value.is_number(),
                Some("boolean") => value.is_boolean(),
                Some("string") => value.is_string(),
                _ => !value.is_object() && !value.is_array(),
            };
            if !fits {
                errors.push(report(
                    path,
                    mismatch(node.scalar().unwrap_or_default(), value),
                ));
            }
        }
        (Shape::List { atomic }, Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                let element = match atomic {
                    true => PathElement::Index(index as i64),
                    false => match node.element(schema, item) {
                        Ok(element) => element,
                        Err(error) => {
                            errors.push(report(path, format!("element {index}: {error}")));
                            return;
                        }
                    },
                };
                if !seen.insert(element.clone()) {
                    errors.push(report(path, format!("duplicate entries for key {element}")));
                }
                path.push(element);
                check(schema, node.item(schema), item, path, errors);
                path.pop();
            }
        }
        (Shape::Map { .. }, Value::Object(map)) => {
            for (key, value) in map {
                path.push(PathElement::Field(key.clone()));
                if !node.open(schema) && !node.declares(schema, key) {
                    errors.push(report(path, "field not declared in schema".to_owned()));
                    path.pop();
                    return;
                }
                check(schema, node.entry(schema, key), value, path, errors);
                path.pop();
            }
        }
        (Shape::List { .. }, other) => {
            errors.push(report(path, format!("expected list, got {}", show(other))))
        }
        (Shape::Map { .. }, other) => {
            errors.push(report(path, format!("expected map, got {}", show(other))))
        }
    }
}

fn mismatch(expected: &str, value: &Value) -> String {
    match expected {
        "numeric" => {
            let go_type = match value {
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            format!("expected numeric (int or float), got {go_type}")
        }
        "" => format!("expected any scalar, got {}", show(value)),
        expected => format!("expected {expected}, got {}", show(value)),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => crate::strategic_merge::go_value(other),
    }
}
