//! Objects in Kubernetes' protobuf form, as Go clients send them by default.
//!
//! The bytes are `k8s\0`, then an envelope (`runtime.Unknown`) that names the type and holds the object. Field numbers come
//! from the schema table, so there is no code per kind. Only reading is offered: every client also reads JSON.

mod message;
mod reader;
mod scalar;

use serde_json::{Map, Value};

use crate::schema::{Schema, TypeId};
use reader::{Reader, Wire};

/// What every object's bytes begin with.
pub const PROTOBUF_MAGIC: &[u8; 4] = b"k8s\0";
/// The media type of the form.
pub const PROTOBUF_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Bytes are no object in protobuf form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Prefix,
    #[error("proto: unexpected end of message")]
    Truncated,
    #[error("proto: illegal wire type {0}")]
    WireType(u8),
    #[error("proto: illegal tag 0")]
    Tag,
    #[error("proto: a varint has more than 64 bits")]
    Varint,
    #[error("proto: field {field} of {message} has an unexpected wire type")]
    Mismatch {
        message: &'static str,
        field: &'static str,
    },
    #[error("proto: field {field} of {message}: {problem}")]
    Value {
        message: &'static str,
        field: &'static str,
        problem: String,
    },
    #[error("proto: messages are nested too deeply")]
    Depth,
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    Kind { api_version: String, kind: String },
}

/// Whether bytes claim to be an object in protobuf form.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(PROTOBUF_MAGIC)
}

/// Reads an object. `apiVersion` and `kind` come from the envelope, or from `expected` where it is silent.
///
/// # Errors
/// When the bytes are malformed or name a type that is not known.
pub fn decode_protobuf(
    schema: &Schema,
    bytes: &[u8],
    expected: (&str, &str),
) -> Result<Value, ProtobufError> {
    let body = bytes
        .strip_prefix(PROTOBUF_MAGIC)
        .ok_or(ProtobufError::Prefix)?;
    let mut api_version = String::new();
    let mut kind = String::new();
    let mut raw: &[u8] = &[];
    let mut envelope = Reader::new(body);
    while let Some((number, wire)) = envelope.next()? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Reader::new(meta);
                while let Some((number, wire)) = meta.next()? {
                    match (number, wire) {
                        (1, Wire::Bytes(text)) => {
                            api_version = String::from_utf8_lossy(text).into_owned()
                        }
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(object)) => raw = object,
            _ => {}
        }
    }
    if api_version.is_empty() {
        api_version = expected.0.to_owned();
    }
    if kind.is_empty() {
        kind = expected.1.to_owned();
    }
    let id = type_of(schema, &api_version, &kind)?;
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    message::read(schema, id, raw, &mut object)?;
    Ok(Value::Object(object))
}

fn type_of(schema: &Schema, api_version: &str, kind: &str) -> Result<TypeId, ProtobufError> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let found = schema.kind(group, version, kind);
    // Every group has these, and clients name their own.
    let found = found.or_else(|| {
        (kind == "DeleteOptions")
            .then(|| schema.named(DELETE_OPTIONS))
            .flatten()
    });
    found.ok_or_else(|| ProtobufError::Kind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })
}

#[cfg(test)]
mod tests;
