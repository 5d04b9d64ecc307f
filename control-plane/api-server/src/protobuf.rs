//! Protobuf in: the objects that typed clients (`kubectl create`, kubelets) send.
//!
//! Answers to such clients are JSON, which they accept besides.

use api_machinery::{Schema, Status, decode_protobuf};
use serde_json::Value;

/// Decodes an object with its envelope. `api_version` and `kind` stand in where it does not name its own.
///
/// # Errors
/// 400 for bytes that are no such object.
pub(crate) fn decode(body: &[u8], api_version: &str, kind: &str) -> Result<Value, Status> {
    decode_protobuf(Schema::global(), body, (api_version, kind)).map_err(|error| {
        Status::bad_request(format!("error decoding the body as protobuf: {error}"))
    })
}
