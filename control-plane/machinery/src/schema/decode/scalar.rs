//! Checks and normalises values that are neither struct, list nor map, and names what does not fit.

use std::borrow::Cow;

use serde_json::Value;

use super::DecodeError;
use crate::quantity::{QuantityError, canonical_quantity};
use crate::schema::{Schema, Type, base64, time};

/// Go's spelling of a type where it does not follow from the table's type.
pub(super) type GoType = Option<&'static str>;

/// The kind of a JSON value as Go names it.
pub(super) fn value_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

pub(super) fn check(
    schema: &Schema,
    ty: Type,
    value: &mut Value,
    go: GoType,
) -> Result<(), DecodeError> {
    let fits = match (ty, &*value) {
        (Type::String, Value::String(_))
        | (Type::Bool, Value::Bool(_))
        | (Type::Double, Value::Number(_)) => true,
        (Type::Int32, Value::Number(number)) => number
            .as_i64()
            .is_some_and(|value| i32::try_from(value).is_ok()),
        (Type::Int64, Value::Number(number)) => number.as_i64().is_some(),
        (Type::Bytes, Value::String(_)) => return bytes(value),
        (Type::Quantity, _) => return quantity(value),
        (Type::Time | Type::MicroTime, Value::String(_)) => return timestamp(ty, value),
        (Type::IntOrString, Value::String(_)) => true,
        (Type::IntOrString, Value::Number(number)) => number
            .as_i64()
            .is_some_and(|value| i32::try_from(value).is_ok()),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let integer = matches!(ty, Type::Int32 | Type::Int64 | Type::IntOrString);
    let found = match &*value {
        Value::Number(number) if integer => Cow::Owned(format!("number {number}")),
        other => Cow::Borrowed(value_name(other)),
    };
    let expected = match ty {
        // These types have decoders of their own, which read a plain integer or string.
        Type::IntOrString => Cow::Borrowed("int32"),
        Type::Time | Type::MicroTime => Cow::Borrowed("string"),
        _ => go_type(schema, ty, go),
    };
    Err(DecodeError::mismatch(found, expected))
}

/// Go's spelling of a type: `v1.PodSpec`, `[]v1.Container`, `map[string]string`.
fn go_type(schema: &Schema, ty: Type, go: GoType) -> Cow<'static, str> {
    if let Some(go) = go {
        return Cow::Borrowed(go);
    }
    Cow::Borrowed(match ty {
        Type::String => "string",
        Type::Bytes => "[]uint8",
        Type::Bool => "bool",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Double => "float64",
        Type::Quantity => "resource.Quantity",
        Type::IntOrString => "intstr.IntOrString",
        Type::Time => "v1.Time",
        Type::MicroTime => "v1.MicroTime",
        Type::Struct(id) => return Cow::Owned(schema.definition(id).go_name().to_owned()),
        Type::List(id) => {
            return Cow::Owned(format!("[]{}", go_type(schema, schema.list(id).item, None)));
        }
        Type::Map(id) => {
            return Cow::Owned(format!(
                "map[string]{}",
                go_type(schema, schema.map(id).value, None)
            ));
        }
    })
}

fn bytes(value: &mut Value) -> Result<(), DecodeError> {
    let Value::String(text) = value else {
        return Ok(());
    };
    match base64::check(text) {
        Ok(breaks) => {
            if breaks {
                text.retain(|character| character != '\n' && character != '\r');
            }
            Ok(())
        }
        Err(at) => Err(DecodeError::Text(format!(
            "illegal base64 data at input byte {at}"
        ))),
    }
}

fn quantity(value: &mut Value) -> Result<(), DecodeError> {
    let failed = |error: QuantityError| DecodeError::Text(error.to_string());
    let canonical = match &*value {
        Value::String(text) => match canonical_quantity(text).map_err(failed)? {
            Cow::Borrowed(same) if same.len() == text.len() => return Ok(()),
            other => other.into_owned(),
        },
        Value::Number(number) => canonical_quantity(&number.to_string())
            .map_err(failed)?
            .into_owned(),
        _ => return Err(failed(QuantityError::Format)),
    };
    *value = Value::String(canonical);
    Ok(())
}

fn timestamp(ty: Type, value: &mut Value) -> Result<(), DecodeError> {
    let Value::String(text) = value else {
        return Ok(());
    };
    let canonical = match ty {
        Type::Time => time::canonical_seconds(text),
        _ => time::canonical_micros(text),
    };
    if let Some(changed) = canonical.map_err(|error| DecodeError::Text(error.to_string()))? {
        *text = changed;
    }
    Ok(())
}
