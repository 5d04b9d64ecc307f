//! Who owns which field (`metadata.managedFields`), as far as a request changes it.
//!
//! Ownership is tracked from an object's first server-side apply on; objects that nobody applies that way carry none.

use api_machinery::{
    ApplyError, FieldError, FieldPath, ObjectExt, ObjectMutExt, Status, StatusCause, Timestamp,
    Writer, apply, format_time, reset_fields, update_managed_fields,
};
use http::header::USER_AGENT;
use serde_json::Value;

use crate::answer::Context;
use crate::resource::Resource;

const MANAGED_FIELDS: [&str; 2] = ["metadata", "managedFields"];

/// Who writes: `fieldManager`, or the client's name before the first slash.
fn manager(cx: &Context) -> &str {
    if !cx.query.field_manager.is_empty() {
        return &cx.query.field_manager;
    }
    let agent = cx.headers.get(USER_AGENT).and_then(|v| v.to_str().ok());
    agent
        .and_then(|a| a.split('/').next())
        .filter(|a| !a.is_empty())
        .unwrap_or("unknown")
}

/// What a create or update leaves of a client's `managedFields` where nothing is tracked: nothing.
pub(crate) fn untracked(object: &mut Value) {
    object.remove_field(&MANAGED_FIELDS);
}

/// The changed object with its owners brought up to date.
pub(crate) fn track(
    cx: &Context,
    resource: &Resource,
    current: &Value,
    mut object: Value,
) -> Value {
    let (Some(_), Some(id)) = (current.field(&MANAGED_FIELDS), resource.schema) else {
        untracked(&mut object);
        return object;
    };
    let now = format_time(Timestamp::now());
    let reset = reset_fields(&resource.kind, &cx.info.subresource);
    let writer = Writer {
        id,
        api_version: &resource.api_version,
        manager: manager(cx),
        subresource: &cx.info.subresource,
        reset: &reset,
        now: &now,
    };
    update_managed_fields(&writer, Some(current), object)
}

/// An applied configuration merged into the current object, or into none.
///
/// # Errors
/// 409 with every conflict unless forced, 400 for a configuration that does not fit, 422 without a field manager.
pub(crate) fn merge(
    cx: &Context,
    resource: &Resource,
    current: Option<&Value>,
    config: &Value,
) -> Result<Value, Status> {
    if cx.query.field_manager.is_empty() {
        let path = FieldPath::root("fieldManager");
        let error = FieldError::required(&path, "is required for apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let id = resource
        .schema
        .ok_or_else(|| Status::not_implemented("server-side apply of this kind"))?;
    let now = format_time(Timestamp::now());
    let reset = reset_fields(&resource.kind, &cx.info.subresource);
    let writer = Writer {
        id,
        api_version: &resource.api_version,
        manager: manager(cx),
        subresource: &cx.info.subresource,
        reset: &reset,
        now: &now,
    };
    apply(&writer, current, config, cx.query.force == Some(true)).map_err(|error| {
        let message = error.to_string();
        match error {
            ApplyError::Conflicts(conflicts) => {
                let causes = conflicts.iter().map(|conflict| StatusCause {
                    cause_type: "FieldManagerConflict".into(),
                    message: conflict.cause(),
                    field: conflict.path.clone(),
                });
                Status::apply_conflict(causes.collect(), message)
            }
            ApplyError::BadRequest(_) => Status::bad_request(message),
            ApplyError::Internal(_) => Status::internal_error(message),
        }
    })
}
