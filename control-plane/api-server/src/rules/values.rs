//! The words in which defaults are written: fill what is unset, walk lists.
//!
//! As in Go's API types, an empty text or a zero counts as unset where upstream's default says so.

use serde_json::{Map, Value};

/// Gives `field` a value where it is missing or null.
pub(super) fn fill(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        match map.get_mut(field) {
            Some(slot) if slot.is_null() => *slot = value.into(),
            Some(_) => {}
            None => drop(map.insert(field.to_owned(), value.into())),
        }
    }
}

/// Gives `field` a text where it is missing, null or empty.
pub(super) fn fill_text(object: &mut Value, field: &str, text: &str) {
    if object
        .get(field)
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        set(object, field, text);
    }
}

/// Gives `field` a number where it is missing, null or zero.
pub(super) fn fill_number(object: &mut Value, field: &str, number: i64) {
    if object
        .get(field)
        .and_then(Value::as_i64)
        .is_none_or(|n| n == 0)
    {
        set(object, field, number);
    }
}

/// Gives `field` a value, whatever it has.
pub(super) fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(field.to_owned(), value.into());
    }
}

/// The field's value if it has one.
pub(super) fn get_mut<'v>(object: &'v mut Value, path: &[&str]) -> Option<&'v mut Value> {
    path.iter()
        .try_fold(object, |value, step| value.get_mut(*step))
        .filter(|value| !value.is_null())
}

/// The map in `field`, made where it is missing.
pub(super) fn map_in<'v>(object: &'v mut Value, field: &str) -> Option<&'v mut Value> {
    fill(object, field, Map::new());
    object.get_mut(field)
}

/// Every element of the list in `field`.
pub(super) fn each<'v>(object: &'v mut Value, field: &str) -> impl Iterator<Item = &'v mut Value> {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Copies what `to` lacks from the map in `from`.
pub(super) fn fill_entries(object: &mut Value, from: &str, to: &str) {
    let Some(source) = object
        .get(from)
        .and_then(Value::as_object)
        .filter(|map| !map.is_empty())
        .cloned()
    else {
        return;
    };
    if let Some(target) = map_in(object, to).and_then(Value::as_object_mut) {
        for (key, value) in source {
            target.entry(key).or_insert(value);
        }
    }
}
