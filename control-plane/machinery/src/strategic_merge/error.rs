//! What can be wrong with a strategic merge patch, in upstream's words.

use serde_json::Value;

use crate::schema::Type;
use crate::status::go_quote;

/// Why a strategic merge patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicMergeError {
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: String },
    #[error("expected a {expected}, but received a {actual}")]
    BadArgument {
        expected: &'static str,
        actual: &'static str,
    },
    #[error("unknown patch type: {directive} in map: {map}")]
    PatchType { directive: String, map: String },
    #[error("{0}")]
    Other(String),
}

impl StrategicMergeError {
    /// The HTTP status with which upstream answers: 400, 422, or 500 for what it does not classify.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::PrimitiveList | Self::RetainKeys | Self::SetElementOrder => 400,
            Self::ListOfLists => 422,
            _ => 500,
        }
    }
}

/// A JSON value as Go prints it with `%v` (`map[a:1 b:[x y]]`, keys sorted).
pub fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_value).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", go_value(value)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

pub(super) fn bad_argument(expected: &'static str, actual: &Value) -> StrategicMergeError {
    let actual = match actual {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    StrategicMergeError::BadArgument { expected, actual }
}

pub(super) fn no_merge_key(map: &Value, key: &str) -> StrategicMergeError {
    StrategicMergeError::NoMergeKey {
        map: go_value(map),
        key: key.to_owned(),
    }
}

pub(super) fn no_field(structure: &str, key: &str) -> StrategicMergeError {
    StrategicMergeError::Other(format!(
        "unable to find api field in struct {structure} for the json field {}",
        go_quote(key)
    ))
}

pub(super) fn not_a_struct(ty: Type) -> StrategicMergeError {
    let kind = match ty {
        Type::Map(_) => "map",
        Type::List(_) | Type::Bytes => "slice",
        Type::String => "string",
        Type::Bool => "bool",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Double => "float64",
        _ => "struct",
    };
    StrategicMergeError::Other(format!(
        "merging an object in json but data type is not struct, instead is: {kind}"
    ))
}
