//! One field that is wrong, in upstream's types and words.
//!
//! Validation gives lists of these; `Status::invalid` turns them into the 422 that a user reads. Knows no kind.

use std::fmt;

use serde_json::Value;

use super::{FieldPath, go_json, go_quote};

/// What is wrong with a field (upstream's `field.ErrorType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    TooShort,
    Internal,
    TypeInvalid,
}

impl FieldErrorType {
    /// The cause's type on the wire.
    pub fn cause(self) -> &'static str {
        match self {
            FieldErrorType::NotFound => "FieldValueNotFound",
            FieldErrorType::Required => "FieldValueRequired",
            FieldErrorType::Duplicate => "FieldValueDuplicate",
            FieldErrorType::Invalid => "FieldValueInvalid",
            FieldErrorType::NotSupported => "FieldValueNotSupported",
            FieldErrorType::Forbidden => "FieldValueForbidden",
            FieldErrorType::TooLong => "FieldValueTooLong",
            FieldErrorType::TooMany => "FieldValueTooMany",
            FieldErrorType::TooFew => "FieldValueTooFew",
            FieldErrorType::TooShort => "FieldValueTooShort",
            FieldErrorType::Internal => "InternalError",
            FieldErrorType::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            FieldErrorType::NotFound => "Not found",
            FieldErrorType::Required => "Required value",
            FieldErrorType::Duplicate => "Duplicate value",
            FieldErrorType::Invalid | FieldErrorType::TypeInvalid => "Invalid value",
            FieldErrorType::NotSupported => "Unsupported value",
            FieldErrorType::Forbidden => "Forbidden",
            FieldErrorType::TooLong => "Too long",
            FieldErrorType::TooMany => "Too many",
            FieldErrorType::TooFew => "Too few",
            FieldErrorType::TooShort => "Too short",
            FieldErrorType::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(
            self,
            FieldErrorType::Required
                | FieldErrorType::Forbidden
                | FieldErrorType::TooLong
                | FieldErrorType::TooShort
                | FieldErrorType::Internal
        )
    }
}

/// One wrong field. `Display` gives `field: what: detail`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    pub error_type: FieldErrorType,
    /// The field's path.
    pub field: String,
    /// The value that was refused; `None` leaves it out of the message.
    pub bad_value: Option<Value>,
    /// More, for humans; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(
        error_type: FieldErrorType,
        field: &FieldPath<'_>,
        bad_value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        FieldError {
            error_type,
            field: field.to_string(),
            bad_value,
            detail: detail.into(),
        }
    }

    /// A value must be given.
    pub fn required(field: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::Required, field, None, detail)
    }

    /// The value is malformed or out of bounds.
    pub fn invalid(
        field: &FieldPath<'_>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(FieldErrorType::Invalid, field, Some(value.into()), detail)
    }

    /// The value has the wrong type.
    pub fn type_invalid(
        field: &FieldPath<'_>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(
            FieldErrorType::TypeInvalid,
            field,
            Some(value.into()),
            detail,
        )
    }

    /// The field may not be changed once set.
    pub fn immutable(field: &FieldPath<'_>, value: impl Into<Value>) -> Self {
        Self::invalid(field, value, "field is immutable")
    }

    /// The value is none of an enumeration; `supported` in the order to be shown.
    pub fn not_supported(
        field: &FieldPath<'_>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| go_quote(s)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(
            FieldErrorType::NotSupported,
            field,
            Some(value.into()),
            detail,
        )
    }

    /// The field may not be used under these conditions.
    pub fn forbidden(field: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::Forbidden, field, None, detail)
    }

    /// The value appears twice where it must be unique.
    pub fn duplicate(field: &FieldPath<'_>, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorType::Duplicate, field, Some(value.into()), "")
    }

    /// What the value names does not exist.
    pub fn not_found(field: &FieldPath<'_>, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorType::NotFound, field, Some(value.into()), "")
    }

    /// The value has more than `max` bytes.
    pub fn too_long(field: &FieldPath<'_>, max: usize) -> Self {
        let bytes = if max == 1 { "byte" } else { "bytes" };
        Self::new(
            FieldErrorType::TooLong,
            field,
            None,
            format!("may not be more than {max} {bytes}"),
        )
    }

    /// The value has more than `max` characters.
    pub fn too_long_characters(field: &FieldPath<'_>, max: usize) -> Self {
        let characters = if max == 1 { "character" } else { "characters" };
        Self::new(
            FieldErrorType::TooLong,
            field,
            None,
            format!("may not be more than {max} {characters}"),
        )
    }

    /// The list has more than `max` items.
    pub fn too_many(field: &FieldPath<'_>, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        Self::new(
            FieldErrorType::TooMany,
            field,
            Some(actual.into()),
            format!("must have at most {max} {items}"),
        )
    }

    /// The check itself failed.
    pub fn internal(field: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::Internal, field, None, detail)
    }

    /// The message without the field's path: what `causes[].message` holds.
    pub fn body(&self) -> String {
        let mut text = self.error_type.words().to_owned();
        if let (true, Some(value)) = (self.error_type.shows_value(), &self.bad_value) {
            text.push_str(": ");
            match value {
                Value::String(s) => text.push_str(&go_quote(s)),
                other => text.push_str(&go_json(other)),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for FieldError {}

/// All messages as one: a single one as it is, several as `[a, b]`, each said once.
pub fn aggregate_message(errors: &[FieldError]) -> String {
    let mut messages: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let message = error.to_string();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.as_slice() {
        [single] => single.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_upstreams() {
        let path = FieldPath::root("spec.type");
        for (error, expected) in [
            (FieldError::required(&path, ""), "spec.type: Required value"),
            (
                FieldError::invalid(&path, "x\"y", "bad"),
                r#"spec.type: Invalid value: "x\"y": bad"#,
            ),
            (
                FieldError::invalid(&path, json!({"a": 1}), "bad"),
                r#"spec.type: Invalid value: {"a":1}: bad"#,
            ),
            (
                FieldError::not_supported(&path, "x", &["A", "B"]),
                r#"spec.type: Unsupported value: "x": supported values: "A", "B""#,
            ),
            (
                FieldError::too_long(&path, 63),
                "spec.type: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(&path, 3, 1),
                "spec.type: Too many: 3: must have at most 1 item",
            ),
            (
                FieldError::immutable(&path, Value::Null),
                "spec.type: Invalid value: null: field is immutable",
            ),
            (
                FieldError::forbidden(&path, "no"),
                "spec.type: Forbidden: no",
            ),
            (
                FieldError::duplicate(&path, "x"),
                r#"spec.type: Duplicate value: "x""#,
            ),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn aggregate_says_each_once() {
        let path = FieldPath::root("a");
        let error = FieldError::required(&path, "");
        assert_eq!(
            aggregate_message(&[error.clone(), error.clone()]),
            "a: Required value"
        );
        let other = FieldError::forbidden(&path, "");
        assert_eq!(
            aggregate_message(&[error, other]),
            "[a: Required value, a: Forbidden]"
        );
    }
}
