//! Metadata of objects, from parsed values and from raw bytes.
//!
//! The caches and the store see an object as bytes and need only its metadata; the pipeline has it as a `Value`. Knows no
//! kind.

mod object;
mod partial;
mod validation;

use crate::status::{FieldError, FieldPath};

pub use object::{ObjectExt, ObjectMutExt, controller_of};
pub use partial::{OwnerReference, PartialMeta, PartialObject, Str};
pub use validation::{TOTAL_ANNOTATION_SIZE_LIMIT, validate_meta_create, validate_meta_update};

/// Reads a resourceVersion.
///
/// # Errors
/// Upstream's error about the field `resourceVersion`.
pub fn parse_resource_version(text: &str) -> Result<u64, Box<FieldError>> {
    text.parse().map_err(|_| {
        let too_large = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let problem = if too_large {
            "value out of range"
        } else {
            "invalid syntax"
        };
        let detail = format!(
            "strconv.ParseUint: parsing {}: {problem}",
            crate::status::go_quote(text)
        );
        Box::new(FieldError::invalid(
            &FieldPath::root("resourceVersion"),
            text,
            detail,
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_versions_are_numbers() {
        assert_eq!(parse_resource_version("42"), Ok(42));
        assert_eq!(
            parse_resource_version("abc").expect_err("text").to_string(),
            r#"resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax"#
        );
        assert!(
            parse_resource_version("99999999999999999999")
                .expect_err("large")
                .detail
                .ends_with("out of range")
        );
    }
}
