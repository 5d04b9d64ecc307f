//! What can be wrong with an object's fields, in the words of upstream's decoder.

use std::fmt;

use crate::schema::{Definition, Field};
use crate::status::go_quote;

/// A value does not fit its type. The API answers 400 BadRequest with
/// `KIND in version "VERSION" cannot be handled as a KIND: ` and this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("json: cannot unmarshal {value} into Go {place} of type {go_type}")]
    Mismatch {
        /// What was found: `string`, `number 1.5`, `object`.
        value: String,
        go_type: String,
        place: Place,
    },
    /// A quantity, time or base64 text that does not parse.
    #[error("{0}")]
    Text(String),
}

impl DecodeError {
    /// The same in the words of upstream's conversion from a map to a struct, which patched objects go through.
    pub fn conversion_message(&self) -> String {
        let Self::Mismatch { value, go_type, .. } = self else {
            return self.to_string();
        };
        let found = match value.split(' ').next().unwrap_or_default() {
            "object" => "map",
            "array" => "slice",
            "number" if value.contains('.') => "float64",
            "number" => "int64",
            other => other,
        };
        match go_type.as_str() {
            "string" if found == "int64" => "cannot convert int64 to string".to_owned(),
            "string" | "bool" | "int32" | "int64" | "float64" => {
                format!("unrecognized type: {go_type}")
            }
            list if list.starts_with("[]") => format!("cannot restore slice from {found}"),
            map if map.starts_with("map[") => format!("cannot restore map from {found}"),
            _ => format!("cannot restore struct from: {found}"),
        }
    }
}

/// Where a mismatch is: the innermost struct and the path of field names from the root, without indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    structure: Option<&'static str>,
    /// Innermost first.
    path: Vec<&'static str>,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(structure) = self.structure else {
            return out.write_str("value");
        };
        write!(out, "struct field {structure}")?;
        self.path
            .iter()
            .rev()
            .try_for_each(|name| write!(out, ".{name}"))
    }
}

impl DecodeError {
    pub(super) fn mismatch(value: impl Into<String>, go_type: impl Into<String>) -> DecodeError {
        DecodeError::Mismatch {
            value: value.into(),
            go_type: go_type.into(),
            place: Place::default(),
        }
    }

    /// Adds the field in which the error occurred.
    pub(super) fn within(mut self, definition: &Definition, field: &Field) -> DecodeError {
        if let DecodeError::Mismatch { place, .. } = &mut self {
            place.structure.get_or_insert(definition.short_name());
            place.path.push(field.name);
            // Inlined structs are part of Go's path: outermost last here.
            for inlined in field.inlined.unwrap_or_default().rsplit(',') {
                if let Some((name, _)) = inlined.split_once(':') {
                    place.path.push(name);
                }
            }
        }
        self
    }
}

/// A field that strict validation refuses and that otherwise is dropped, or its earlier values are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    #[error("unknown field {}", go_quote(.0))]
    Unknown(String),
    #[error("duplicate field {}", go_quote(.0))]
    Duplicate(String),
}

/// The text with which `fieldValidation=Strict` refuses an object, after the same prefix as [`DecodeError`]'s.
pub fn strict_decoding_message(errors: &[StrictError]) -> String {
    let texts: Vec<String> = errors.iter().map(StrictError::to_string).collect();
    format!("strict decoding error: {}", texts.join(", "))
}
