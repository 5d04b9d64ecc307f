//! From a request's bytes to an object in the form that the pipeline works on: parsed, checked against its type,
//! pruned, defaulted.

use api_machinery::{
    DecodeError, Form, ObjectExt, ObjectMutExt, Schema, Status, StrictError, apply_defaults,
    decode, parse_json, strict_decoding_message,
};
use serde_json::Value;

use crate::answer::Context;
use crate::negotiate::{BodyFormat, body_format};
use crate::options::FieldValidation;
use crate::protobuf;
use crate::resource::Resource;

/// The kind of object that a body should hold.
pub(crate) struct Expected<'a> {
    /// `v1`, `apps/v1`.
    pub api_version: &'a str,
    pub kind: &'a str,
}

/// Parses a body by its content type into a value; duplicate fields are reported.
///
/// # Errors
/// 415 for other formats, 400 for what does not parse.
pub(crate) fn parse(
    content_type: &str,
    body: &[u8],
    expected: &Expected<'_>,
) -> Result<(Value, Vec<StrictError>), Status> {
    match body_format(content_type)? {
        BodyFormat::Json => {
            let parsed = parse_json(body).map_err(|e| unrecognized(expected.kind, &e.0, body))?;
            Ok((
                parsed.value,
                parsed
                    .duplicates
                    .into_iter()
                    .map(StrictError::Duplicate)
                    .collect(),
            ))
        }
        BodyFormat::Yaml => {
            let value = crate::yaml::parse(body)
                .map_err(|e| Status::bad_request(format!("error parsing the body as YAML: {e}")))?;
            Ok((value, Vec::new()))
        }
        BodyFormat::Protobuf => Ok((
            protobuf::decode(body, expected.api_version, expected.kind)?,
            Vec::new(),
        )),
    }
}

fn unrecognized(kind: &str, error: &str, body: &[u8]) -> Status {
    const SUMMARY_BYTES: usize = 30;
    let hex: String = body
        .iter()
        .take(SUMMARY_BYTES)
        .map(|b| format!("{b:02x}"))
        .collect();
    let summary = if body.len() > SUMMARY_BYTES {
        format!("{hex} ...")
    } else {
        hex
    };
    let why = format!("couldn't get version/kind; json parse error: {error}");
    let about = if body.is_empty() {
        String::new()
    } else {
        format!(" ({summary})")
    };
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why}{about}"
    ))
}

/// Decodes the body of a write of `resource`.
///
/// # Errors
/// 400 or 415 for bodies that are no such object; with `fieldValidation=Strict` also for fields that it does not have.
pub(crate) fn object(
    cx: &Context,
    resource: &Resource,
    validation: FieldValidation,
    body: &[u8],
) -> Result<Value, Status> {
    let expected = Expected {
        api_version: &resource.api_version,
        kind: &resource.kind.kind,
    };
    let (mut value, duplicates) = parse(cx.content_type(), body, &expected)?;
    check_kind(&mut value, &expected)?;
    let mut found = duplicates;
    found.extend(complete(resource, &mut value)?);
    report(cx, validation, &found, &expected)?;
    Ok(value)
}

/// Checks a value against the resource's type and applies all defaults.
pub(crate) fn complete(resource: &Resource, value: &mut Value) -> Result<Vec<StrictError>, Status> {
    complete_or(resource, value, |error| {
        let expected = Expected {
            api_version: &resource.api_version,
            kind: &resource.kind.kind,
        };
        not_handled(&expected, &error.to_string())
    })
}

/// As [`complete`], with the caller's own answer to a value that does not fit its type.
pub(crate) fn complete_or(
    resource: &Resource,
    value: &mut Value,
    refuse: impl FnOnce(&DecodeError) -> Status,
) -> Result<Vec<StrictError>, Status> {
    let mut found = Vec::new();
    if let Some(id) = resource.schema {
        let schema = Schema::global();
        found = decode(schema, id, value, Form::Complete).map_err(|error| refuse(&error))?;
        apply_defaults(schema, id, value);
    }
    value.remove_field(&["metadata", "selfLink"]);
    if resource.conversion.is_none() {
        resource.rules.default(value);
    }
    Ok(found)
}

/// Warns of, refuses, or ignores fields that a type does not have.
pub(crate) fn report(
    cx: &Context,
    validation: FieldValidation,
    found: &[StrictError],
    expected: &Expected<'_>,
) -> Result<(), Status> {
    match validation {
        _ if found.is_empty() => Ok(()),
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            found.iter().for_each(|error| cx.warn(error.to_string()));
            Ok(())
        }
        FieldValidation::Strict => Err(not_handled(expected, &strict_decoding_message(found))),
    }
}

fn not_handled(expected: &Expected<'_>, why: &str) -> Status {
    let kind = expected.kind;
    let version = expected.api_version.rsplit('/').next().unwrap_or_default();
    Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
    ))
}

/// Sees that the object says what it is, and that it is what the URL says.
pub(crate) fn check_kind(value: &mut Value, expected: &Expected<'_>) -> Result<(), Status> {
    let Some(map) = value.as_object_mut() else {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: json: \
             cannot unmarshal into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind \
             string \"json:\\\"kind,omitempty\\\"\" }}",
            expected.kind
        )));
    };
    for (field, default) in [
        ("apiVersion", expected.api_version),
        ("kind", expected.kind),
    ] {
        let slot = map.entry(field).or_insert(Value::Null);
        if slot.is_null() || slot.as_str() == Some("") {
            *slot = default.into();
        }
    }
    if value.api_version() != expected.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            value.api_version(),
            expected.api_version
        )));
    }
    if value.kind() != expected.kind {
        let version = expected.api_version.rsplit('/').next().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "{} in version {version:?} cannot be handled as a {}: converting ({}) to ({}): unknown conversion",
            value.kind(),
            expected.kind,
            value.kind(),
            expected.kind,
        )));
    }
    Ok(())
}
