//! Cells that many kinds share: ages, names of containers, labels, selectors, and what stands for nothing.

use serde_json::{Map, Value};

use crate::meta::ObjectExt;
use crate::schema::parse_time;
use crate::selector::LabelSelector;
use crate::time::{Timestamp, human_duration};

pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";
pub(super) const UNKNOWN: &str = "<unknown>";

pub(super) fn name(object: &Value) -> Value {
    object.name().into()
}

pub(super) fn name_and_creation(object: &Value) -> Vec<Value> {
    vec![name(object), object.creation_timestamp().into()]
}

/// The age of the object.
pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    since(object.creation_timestamp(), now).into()
}

/// The time since an instant.
pub(super) fn since(time: &str, now: Timestamp) -> String {
    match parse_time(time) {
        Ok(time) => human_duration(time, now),
        Err(_) => UNKNOWN.to_owned(),
    }
}

/// The text at a path, or `otherwise` where it is missing or empty.
pub(super) fn text_or(object: &Value, path: &[&str], otherwise: &str) -> Value {
    match object.text(path) {
        "" => otherwise.into(),
        text => text.into(),
    }
}

pub(super) fn text(object: &Value, path: &[&str]) -> Value {
    object.text(path).into()
}

/// The number at a path, 0 where it is missing.
pub(super) fn number(object: &Value, path: &[&str]) -> Value {
    count(object, path).into()
}

pub(super) fn count(object: &Value, path: &[&str]) -> i64 {
    object.number(path).unwrap_or_default()
}

/// The number or text at a path as it stands, or `otherwise`.
pub(super) fn value_or(object: &Value, path: &[&str], otherwise: &str) -> Value {
    object
        .field(path)
        .cloned()
        .unwrap_or_else(|| otherwise.into())
}

/// The number or text at a path as text, or `otherwise`.
pub(super) fn shown_or(object: &Value, path: &[&str], otherwise: &str) -> String {
    match object.field(path) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => otherwise.to_owned(),
    }
}

pub(super) fn flag(object: &Value, path: &[&str]) -> Value {
    object.flag(path).into()
}

/// `READY/DESIRED` and the like.
pub(super) fn ratio(part: i64, whole: i64) -> Value {
    format!("{part}/{whole}").into()
}

/// Names and images of the containers in a pod template.
pub(super) fn containers(object: &Value, template: &[&str]) -> [Value; 2] {
    let path: Vec<&str> = template
        .iter()
        .copied()
        .chain(["spec", "containers"])
        .collect();
    let join = |field: &str| {
        let texts: Vec<&str> = object
            .list(&path)
            .iter()
            .map(|c| c.text(&[field]))
            .collect();
        Value::from(texts.join(","))
    };
    [join("name"), join("image")]
}

/// A map of labels, sorted.
pub(super) fn labels(labels: Option<&Map<String, Value>>) -> Value {
    let mut pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        return NONE.into();
    }
    pairs.sort();
    pairs.join(",").into()
}

/// A `LabelSelector` as a query string, `<none>` where it has no terms.
pub(super) fn selector(object: &Value, path: &[&str]) -> Value {
    match LabelSelector::from_object(object.field(path)) {
        Ok(selector) => match selector.to_string() {
            text if text.is_empty() => NONE.into(),
            text => text.into(),
        },
        Err(_) => "<error>".into(),
    }
}

/// The condition of a type.
pub(super) fn condition<'o>(object: &'o Value, condition_type: &str) -> Option<&'o Value> {
    object
        .list(&["status", "conditions"])
        .iter()
        .find(|c| c.text(&["type"]) == condition_type)
}

pub(super) fn condition_is_true(object: &Value, condition_type: &str) -> bool {
    condition(object, condition_type).is_some_and(|c| c.text(&["status"]) == "True")
}

/// At most three items, and how many more there are.
pub(super) fn first_three(items: &[String], when_empty: &str) -> String {
    const SHOWN: usize = 3;
    match items.len() {
        0 => when_empty.to_owned(),
        n if n > SHOWN => format!("{} + {} more...", items[..SHOWN].join(","), n - SHOWN),
        _ => items.join(","),
    }
}
