//! Values that are one value in JSON: texts, numbers, times, quantities.

use base64::Engine;
use jiff::Timestamp;
use serde_json::Value;

use super::ProtobufError;
use super::message::Place;
use super::reader::{Reader, Wire};
use crate::schema::Type;
use crate::time::{format_micro_time, format_time};

/// The JSON of one value; `None` for a time that is not set.
pub(super) fn read(ty: Type, wire: Wire<'_>, at: Place) -> Result<Option<Value>, ProtobufError> {
    Ok(Some(match (ty, wire) {
        (Type::String, Wire::Bytes(bytes)) => at.text(bytes)?.into(),
        (Type::Bytes, Wire::Bytes(bytes)) => base64::engine::general_purpose::STANDARD
            .encode(bytes)
            .into(),
        (Type::Bool, Wire::Varint(value)) => (value != 0).into(),
        // Negative numbers of 32 bits are written with 64.
        (Type::Int32, Wire::Varint(value)) => (value as i32).into(),
        (Type::Int64, Wire::Varint(value)) => (value as i64).into(),
        (Type::Double, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Type::Quantity, Wire::Bytes(bytes)) => quantity(bytes, at)?,
        (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes, at)?,
        (Type::Time | Type::MicroTime, Wire::Bytes(bytes)) => return time(ty, bytes, at),
        _ => return Err(at.mismatch()),
    }))
}

fn quantity(bytes: &[u8], at: Place) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut text = "0".to_owned();
    while let Some((number, wire)) = reader.next()? {
        if let (1, Wire::Bytes(bytes)) = (number, wire) {
            text = at.text(bytes)?;
        }
    }
    Ok(text.into())
}

fn int_or_string(bytes: &[u8], at: Place) -> Result<Value, ProtobufError> {
    let (mut is_text, mut int, mut text) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(kind)) => is_text = kind != 0,
            (2, Wire::Varint(value)) => int = value as i32,
            (3, Wire::Bytes(bytes)) => text = at.text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { int.into() })
}

fn time(ty: Type, bytes: &[u8], at: Place) -> Result<Option<Value>, ProtobufError> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(value)) => seconds = value as i64,
            (2, Wire::Varint(value)) => nanos = value as i32,
            _ => {}
        }
    }
    // Go's zero time is no time.
    if seconds == 0 && nanos == 0 {
        return Ok(None);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|error| at.problem(error.to_string()))?;
    let text = if ty == Type::Time {
        format_time(time)
    } else {
        format_micro_time(time)
    };
    Ok(Some(text.into()))
}
