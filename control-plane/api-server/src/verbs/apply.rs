//! apply: server-side apply, a patch that states what one manager wants and respects what others own.

use api_machinery::{ObjectExt, ObjectMutExt, Status, StrictError};
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;

use super::update::{UpdatePath, update_object};
use crate::answer::Context;
use crate::body::RequestBody;
use crate::core::Core;
use crate::decoding::{self, Expected};
use crate::options::FieldValidation;
use crate::resource::Resource;
use crate::{ownership, prepare};

pub(super) const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// Applies the body's configuration to the object that the request names; makes it where there is none.
///
/// # Errors
/// 409 where others own what it would change, and as for an update.
pub(super) async fn apply_object(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    path: UpdatePath,
    body: RequestBody,
) -> Result<(StatusCode, Bytes), Status> {
    let dry_run = cx.query.dry_run("PatchOptions")?;
    let validation = cx.query.field_validation("PatchOptions")?;
    let body = body.read().await?;
    let config = crate::yaml::parse(&body)
        .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
    let expected = Expected {
        api_version: &resource.api_version,
        kind: &resource.kind.kind,
    };
    let found: Mutex<Vec<StrictError>> = Mutex::default();
    let merged = |current: Option<&Value>| {
        let mut object = ownership::merge(cx, resource, current, &config)?;
        let strict = decoding::complete(resource, &mut object)?;
        if validation == FieldValidation::Strict {
            decoding::report(cx, validation, &strict, &expected)?;
        }
        *found.lock() = strict;
        decoding::check_kind(&mut object, &expected)?;
        prepare::ensure_namespace(resource, &cx.info.namespace, &mut object)?;
        prepare::check_name(&mut object, &cx.info.name)?;
        Ok::<_, Status>(object)
    };
    let change = |current: &Value| {
        let mut object = merged(Some(current))?;
        if object.resource_version().is_empty() {
            object.set(&["metadata", "resourceVersion"], current.resource_version());
        }
        Ok(object)
    };
    let outcome = match update_object(core, cx, resource, path, &change, dry_run).await {
        Err(status) if status.is_not_found() && path == UpdatePath::Main => {
            let object = merged(None)?;
            let created = super::create::create_object(core, cx, resource, object, dry_run).await?;
            (StatusCode::CREATED, created)
        }
        other => (StatusCode::OK, other?),
    };
    decoding::report(cx, validation, &found.lock(), &expected)?;
    Ok(outcome)
}
