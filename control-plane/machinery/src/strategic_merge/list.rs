//! Merging lists: scalars as sets, objects by their merge key.

use std::collections::HashMap;

use serde_json::Value;

use super::error::{bad_argument, no_merge_key};
use super::order::{self, Elements, Key};
use super::{DIRECTIVE, Merger, Object, StrategicMergeError};
use crate::schema::{Field, Type};

/// What a list holds; all its elements must be of one kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementKind {
    Scalar,
    Object,
}

impl Merger<'_> {
    /// Merges two lists of a field whose patch strategy is `merge`.
    pub(super) fn list(
        &self,
        original: Vec<Value>,
        patch: Vec<Value>,
        field: &Field,
    ) -> Result<Vec<Value>, StrategicMergeError> {
        let Some(kind) = element_kind(&[&original, &patch])? else {
            return Ok(original);
        };
        let item = self.item(field);
        // The order that counts is that of the list before merging, and that of the patch without special elements.
        match kind {
            ElementKind::Scalar => {
                let elements = Elements::scalars();
                let server_order = elements.ranks(&original);
                let patch_order = elements.ranks(&patch);
                let merged = unique(original, patch);
                elements.arrange(merged, &patch_order, &server_order)
            }
            ElementKind::Object => {
                let Some(merge_key) = field.patch_merge_key else {
                    return Err(StrategicMergeError::Other(
                        "cannot merge lists without merge key for struct".to_owned(),
                    ));
                };
                let elements = Elements::objects(merge_key);
                let (original, patch) = special_elements(original, patch, merge_key)?;
                let patch_order = elements.ranks(&patch);
                let server_order = elements.ranks(&original);
                let merged = self.objects(original, patch, merge_key, item)?;
                elements.arrange(merged, &patch_order, &server_order)
            }
        }
    }

    fn item(&self, field: &Field) -> Type {
        match field.ty {
            Type::List(id) => self.schema.list(id).item,
            other => other,
        }
    }

    fn objects(
        &self,
        mut original: Vec<Value>,
        patch: Vec<Value>,
        merge_key: &str,
        item: Type,
    ) -> Result<Vec<Value>, StrategicMergeError> {
        let mut positions: HashMap<Key, usize> = HashMap::new();
        for (index, value) in original.iter().enumerate() {
            if let Some(key) = value.get(merge_key).and_then(order::key) {
                positions.entry(key).or_insert(index);
            }
        }
        for value in patch {
            let Some(key_value) = value.get(merge_key) else {
                return Err(no_merge_key(&value, merge_key));
            };
            let key = order::key(key_value);
            let known = key.as_ref().and_then(|key| positions.get(key)).copied();
            match known {
                Some(index) => {
                    let merged = self.map(object(original[index].take())?, object(value)?, item)?;
                    original[index] = Value::Object(merged);
                }
                None => {
                    if let Some(key) = key {
                        positions.insert(key, original.len());
                    }
                    original.push(value);
                }
            }
        }
        Ok(original)
    }
}

fn object(value: Value) -> Result<Object, StrategicMergeError> {
    match value {
        Value::Object(map) => Ok(map),
        other => Err(bad_argument("map[string]interface {}", &other)),
    }
}

/// The kind of all elements; `None` if there are none.
pub(super) fn element_kind(lists: &[&[Value]]) -> Result<Option<ElementKind>, StrategicMergeError> {
    let kind_of = |value: &Value| match value {
        Value::Object(_) => 0,
        Value::Array(_) => 1,
        Value::String(_) => 2,
        Value::Number(_) => 3,
        Value::Bool(_) => 4,
        Value::Null => 5,
    };
    let mut kinds = lists.iter().flat_map(|list| list.iter()).map(kind_of);
    let Some(first) = kinds.next() else {
        return Ok(None);
    };
    if first == 1 {
        return Err(StrategicMergeError::ListOfLists);
    }
    if kinds.any(|kind| kind != first) {
        let shown: Vec<String> = lists
            .iter()
            .map(|list| super::go_value(&Value::from(list.to_vec())))
            .collect();
        return Err(StrategicMergeError::Other(format!(
            "list element types are not identical: [{}]",
            shown.join(" ")
        )));
    }
    Ok(Some(if first == 0 {
        ElementKind::Object
    } else {
        ElementKind::Scalar
    }))
}

/// Both lists without elements that came before.
fn unique(original: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    let both = original.into_iter().chain(patch);
    both.filter(|value| order::key(value).is_none_or(|key| seen.insert(key)))
        .collect()
}

/// Carries out the elements that are directives: `$patch: delete` removes the elements of that key, one
/// `$patch: replace` anywhere makes the rest of the patch the whole list.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicMergeError> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replace = false;
    for value in patch {
        let Some(directive) = value.get(DIRECTIVE) else {
            rest.push(value);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let Some(deleted) = value.get(merge_key) else {
                    return Err(no_merge_key(&value, merge_key));
                };
                original.retain(|known| known.get(merge_key) != Some(deleted));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(StrategicMergeError::Other(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            _ => {
                return Err(StrategicMergeError::PatchType {
                    directive: super::go_value(directive),
                    map: super::go_value(&value),
                });
            }
        }
    }
    Ok(if replace {
        (rest, Vec::new())
    } else {
        (original, rest)
    })
}
