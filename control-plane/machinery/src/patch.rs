//! JSON patch (RFC 6902) and JSON merge patch (RFC 7386), with upstream's refusals.
//!
//! Strategic merge patch needs the schema and lies elsewhere.

use serde_json::Value;

use crate::status::{Reason, Status};

/// Operations that one JSON patch may hold, as upstream limits it.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// A parsed JSON patch.
#[derive(Debug, Clone)]
pub struct JsonPatch(json_patch::Patch);

impl JsonPatch {
    /// Reads a patch document.
    ///
    /// # Errors
    /// 400 for a document that is no patch, 413 for one with too many operations.
    pub fn parse(body: &[u8]) -> Result<JsonPatch, Status> {
        let patch: json_patch::Patch = serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        let count = patch.0.len();
        if count > MAX_JSON_PATCH_OPERATIONS {
            return Err(Status::new(
                413,
                Reason::RequestEntityTooLarge,
                format!(
                    "Request entity too large: The allowed maximum operations in a JSON patch is \
                     {MAX_JSON_PATCH_OPERATIONS}, got {count}"
                ),
            ));
        }
        Ok(JsonPatch(patch))
    }

    /// Applies all operations, or none.
    ///
    /// # Errors
    /// 422 when an operation cannot be applied or a `test` fails. Upstream does not say which.
    pub fn apply(&self, object: &Value) -> Result<Value, Status> {
        let mut patched = object.clone();
        match json_patch::patch(&mut patched, &self.0) {
            Ok(()) => Ok(patched),
            Err(_) => Err(Status::rejected()),
        }
    }
}

/// Reads a merge patch document.
///
/// # Errors
/// 400 for a document that is no JSON object.
pub fn parse_merge_patch(body: &[u8]) -> Result<Value, Status> {
    match serde_json::from_slice(body) {
        Ok(patch @ Value::Object(_)) => Ok(patch),
        Ok(_) => Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal into Go value of type map",
        )),
        Err(error) => Err(Status::bad_request(format!(
            "error decoding patch: {error}"
        ))),
    }
}

/// Applies a merge patch: nulls delete, objects merge, everything else replaces.
pub fn apply_merge_patch(object: &Value, patch: &Value) -> Value {
    let mut patched = object.clone();
    json_patch::merge(&mut patched, patch);
    patched
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_apply_or_refuse() {
        let object = json!({"a": {"b": 1}, "c": [1, 2]});
        let patch = JsonPatch::parse(
            br#"[{"op":"test","path":"/a/b","value":1},{"op":"add","path":"/c/-","value":3}]"#,
        );
        assert_eq!(
            patch.expect("valid").apply(&object).expect("applies")["c"],
            json!([1, 2, 3])
        );
        let failing =
            JsonPatch::parse(br#"[{"op":"test","path":"/a/b","value":2}]"#).expect("valid");
        assert_eq!(failing.apply(&object).expect_err("test fails").code, 422);
        assert_eq!(JsonPatch::parse(b"{}").expect_err("no list").code, 400);
        assert_eq!(
            apply_merge_patch(&object, &json!({"a": {"b": null, "d": 2}, "c": [9]})),
            json!({"a": {"d": 2}, "c": [9]})
        );
        assert_eq!(parse_merge_patch(b"[]").expect_err("no object").code, 400);
    }
}
