//! patch: JSON patch, merge patch and strategic merge patch of an object's current state.

use api_machinery::{
    FieldError, FieldPath, JsonPatch, ObjectExt, ObjectMutExt, Schema, Status, StrictError,
    apply_merge_patch, parse_json, strategic_merge, strict_decoding_message,
};
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;

use super::apply;
use super::update::{UpdatePath, update_object};
use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::decoding::{self, Expected};
use crate::negotiate::media_type;
use crate::options::FieldValidation;
use crate::resource::Resource;
use crate::{ownership, prepare, render};

/// What is understood, as a refusal lists it.
const MEDIA_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    apply::MEDIA_TYPE,
];

/// A parsed patch.
pub(crate) enum Patch {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
}

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let (status, patched) = match media_type(cx.content_type()) == apply::MEDIA_TYPE {
        true => apply::apply_object(core, cx, resource, UpdatePath::Main, body).await?,
        false => {
            let patched = patch_object(core, cx, resource, UpdatePath::Main, body).await?;
            (StatusCode::OK, patched)
        }
    };
    render::object(cx, resource, status, patched)
}

/// Patches the object that the request names.
///
/// # Errors
/// As for an update, and for patches that cannot be understood or applied.
pub(crate) async fn patch_object(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    path: UpdatePath,
    body: RequestBody,
) -> Result<Bytes, Status> {
    let dry_run = cx.query.dry_run("PatchOptions")?;
    let validation = cx.query.field_validation("PatchOptions")?;
    let content_type = media_type(cx.content_type()).to_owned();
    if content_type == apply::MEDIA_TYPE {
        let applied = apply::apply_object(core, cx, resource, path, body).await?;
        return Ok(applied.1);
    }
    let body = body.read().await?;
    let (patch, duplicates) = Patch::parse(&content_type, &body)?;
    let expected = Expected {
        api_version: &resource.api_version,
        kind: &resource.kind.kind,
    };
    let found: Mutex<Vec<StrictError>> = Mutex::default();
    let change = |current: &Value| {
        let mut object = patch.apply(resource, current)?;
        let strict = decoding::complete_or(resource, &mut object, |error| match &patch {
            Patch::Strategic(_) => patch.refuse(resource, current, &error.conversion_message()),
            _ => patch.refuse(resource, current, &error.to_string()),
        })?;
        let strict: Vec<StrictError> = duplicates.iter().cloned().chain(strict).collect();
        if validation == FieldValidation::Strict && !strict.is_empty() {
            return Err(patch.refuse(resource, current, &strict_decoding_message(&strict)));
        }
        *found.lock() = strict;
        decoding::check_kind(&mut object, &expected)?;
        prepare::ensure_namespace(resource, current.namespace(), &mut object)?;
        prepare::check_name(&mut object, current.name())?;
        // A patch that is silent about the version applies to whatever is there.
        if object.resource_version().is_empty() {
            object.set(&["metadata", "resourceVersion"], current.resource_version());
        }
        Ok(ownership::track(cx, resource, current, object))
    };
    let json = update_object(core, cx, resource, path, &change, dry_run).await?;
    decoding::report(cx, validation, &found.lock(), &expected)?;
    Ok(json)
}

impl Patch {
    /// # Errors
    /// 415 for other media types, 400 for what does not parse.
    pub fn parse(content_type: &str, body: &[u8]) -> Result<(Self, Vec<StrictError>), Status> {
        match content_type {
            "application/json-patch+json" => Ok((Self::Json(JsonPatch::parse(body)?), Vec::new())),
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                let parsed = parse_json(body)
                    .map_err(|e| Status::bad_request(format!("error decoding patch: {}", e.0)))?;
                if !parsed.value.is_object() {
                    return Err(Status::bad_request(
                        "error decoding patch: the patch is no object",
                    ));
                }
                let duplicates = parsed
                    .duplicates
                    .into_iter()
                    .map(StrictError::Duplicate)
                    .collect();
                let patch = match content_type {
                    "application/merge-patch+json" => Self::Merge(parsed.value),
                    _ => Self::Strategic(parsed.value),
                };
                Ok((patch, duplicates))
            }
            _ => Err(Status::unsupported_media_type(&MEDIA_TYPES)),
        }
    }

    /// The answer to a patch that leads to an object that is none: it shows the patch, or what it leads to.
    fn refuse(&self, resource: &Resource, current: &Value, why: &str) -> Status {
        let shown = match self {
            Self::Strategic(patch) => go_text(patch),
            Self::Json(_) | Self::Merge(_) => self
                .apply(resource, current)
                .map_or_else(|_| String::new(), |patched| patched.to_string()),
        };
        let error = FieldError::invalid(&FieldPath::root("patch"), shown, why);
        Status::invalid("", "", "", &[error])
    }

    fn apply(&self, resource: &Resource, current: &Value) -> Result<Value, Status> {
        match self {
            Self::Json(patch) => patch.apply(current),
            Self::Merge(patch) => Ok(apply_merge_patch(current, patch)),
            Self::Strategic(patch) => {
                let id = resource
                    .schema
                    .ok_or_else(|| Status::unsupported_media_type(&MEDIA_TYPES[..2]))?;
                strategic_merge(Schema::global(), id, current.clone(), patch.clone()).map_err(
                    |error| {
                        let text = error.to_string();
                        match error.http_status() {
                            400 => Status::bad_request(text),
                            422 => Status::new(422, api_machinery::Reason::Invalid, text),
                            _ => Status::internal_error(text),
                        }
                    },
                )
            }
        }
    }
}

/// A value as Go prints it with `%+v`.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", go_text(value)))
                .collect();
            fields.sort();
            format!("map[{}]", fields.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::go_text;

    #[test]
    fn values_are_shown_as_go_prints_them() {
        let value = json!({"spec": {"replicas": "two", "a": [1, null, true]}});
        assert_eq!(
            go_text(&value),
            "map[spec:map[a:[1 <nil> true] replicas:two]]"
        );
    }
}
