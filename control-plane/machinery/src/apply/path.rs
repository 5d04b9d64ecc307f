//! Elements of field paths: how a field, a list item or a set member is named, shown and written in `fieldsV1`.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

use crate::status::go_quote;

/// A scalar that names a list item.
#[derive(Clone, Debug)]
pub enum Scalar {
    Number(Number),
    Text(String),
    Bool(bool),
}

/// One step of a path to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field of a struct or an entry of a map.
    Field(String),
    /// An item of a list of type map, by its keys, sorted by name.
    Key(Vec<(String, Scalar)>),
    /// A member of a set.
    Value(Scalar),
    /// An item by its place; only in stored sets of other servers.
    Index(i64),
}

impl Scalar {
    /// The scalar that a value is; objects, lists and null are none.
    pub(super) fn new(value: &Value) -> Option<Scalar> {
        match value {
            Value::Number(number) => Some(Scalar::Number(number.clone())),
            Value::String(text) => Some(Scalar::Text(text.clone())),
            Value::Bool(value) => Some(Scalar::Bool(*value)),
            _ => None,
        }
    }

    fn json(&self) -> Value {
        match self {
            Scalar::Number(number) => Value::Number(number.clone()),
            Scalar::Text(text) => Value::String(text.clone()),
            Scalar::Bool(value) => Value::Bool(*value),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Scalar::Number(_) => 0,
            Scalar::Text(_) => 1,
            Scalar::Bool(_) => 2,
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Scalar) -> Ordering {
        match (self, other) {
            (Scalar::Number(a), Scalar::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => {
                    let float = |number: &Number| number.as_f64().unwrap_or(f64::MAX);
                    float(a).total_cmp(&float(b))
                }
            },
            (Scalar::Text(a), Scalar::Text(b)) => a.cmp(b),
            (Scalar::Bool(a), Scalar::Bool(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Scalar) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl fmt::Display for Scalar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Number(number) => write!(out, "{number}"),
            Scalar::Text(text) => out.write_str(&go_quote(text)),
            Scalar::Bool(value) => write!(out, "{value}"),
        }
    }
}

impl fmt::Display for PathElement {
    /// As conflicts show it: `.spec`, `[name="web"]`, `[="a"]`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(out, ".{name}"),
            PathElement::Key(keys) => {
                out.write_str("[")?;
                for (index, (name, value)) in keys.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(out, "{comma}{name}={value}")?;
                }
                out.write_str("]")
            }
            PathElement::Value(value) => write!(out, "[={value}]"),
            PathElement::Index(index) => write!(out, "[{index}]"),
        }
    }
}

impl PathElement {
    /// The key under which `fieldsV1` has the element: `f:spec`, `k:{"name":"web"}`, `v:"a"`, `i:0`.
    pub(super) fn encode(&self) -> String {
        match self {
            PathElement::Field(name) => format!("f:{name}"),
            PathElement::Key(keys) => {
                let map: Map<String, Value> = keys
                    .iter()
                    .map(|(name, value)| (name.clone(), value.json()))
                    .collect();
                format!("k:{}", Value::Object(map))
            }
            PathElement::Value(value) => format!("v:{}", value.json()),
            PathElement::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads a key of `fieldsV1`; `Ok(None)` for kinds of elements that are not known, which are dropped.
    pub(super) fn decode(text: &str) -> Result<Option<PathElement>, String> {
        let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
            return Err(format!("missing colon: {text}"));
        };
        let json = || serde_json::from_str::<Value>(rest).map_err(|error| error.to_string());
        Ok(match kind {
            "f" => Some(PathElement::Field(rest.to_owned())),
            "v" => Scalar::new(&json()?).map(PathElement::Value),
            "i" => Some(PathElement::Index(
                rest.parse().map_err(|_| format!("no index: {rest}"))?,
            )),
            "k" => {
                let Value::Object(map) = json()? else {
                    return Err(format!("no key: {rest}"));
                };
                let mut keys: Vec<(String, Scalar)> = map
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, Scalar::new(&value)?)))
                    .collect();
                keys.sort();
                Some(PathElement::Key(keys))
            }
            _ => None,
        })
    }
}

/// A path as conflicts show it: `.spec.containers[name="web"].image`.
pub(super) fn show(path: &[PathElement]) -> String {
    path.iter().map(PathElement::to_string).collect()
}
