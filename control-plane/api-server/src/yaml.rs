//! YAML in and out, as another way to write JSON.

use serde_json::Value;

/// A YAML document as JSON.
///
/// # Errors
/// What the parser says.
pub(crate) fn parse(body: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|e| e.to_string())?;
    serde_saphyr::from_str(text).map_err(|e| e.to_string())
}

/// JSON as a YAML document.
///
/// # Errors
/// What the writer says; never for JSON values.
pub(crate) fn write(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|e| e.to_string())
}
