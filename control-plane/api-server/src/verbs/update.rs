//! update: replaces an object if it is still as the client knew it; also the shared course of every change to one.

use std::sync::Arc;

use api_machinery::{ObjectExt, ObjectMutExt, Status};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::delete_steps;
use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::cache::CachedObject;
use crate::core::Core;
use crate::plugin::Operation;
use crate::resource::Resource;
use crate::write::{Outcome, encode};
use crate::{allocation, chain, decoding, ownership, prepare, render, write};

/// Times that a change without a resourceVersion of its own is made again because others came first.
const ATTEMPTS_LIMIT: usize = 64;

/// Which part of an object a change may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpdatePath {
    /// All but status, where that is a subresource.
    Main,
    Status,
    /// All of it: the server itself changes it (binding, finalizers, approval).
    Whole,
    /// As whole, without admission: what asked for it was admitted (an eviction marks its pod).
    Admitted,
}

/// Makes the new object from the current one, both in the served version. Called again when others came first.
pub(crate) type Change<'a> = &'a (dyn Fn(&Value) -> Result<Value, Status> + Send + Sync);

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let dry_run = cx.query.dry_run("UpdateOptions")?;
    let validation = cx.query.field_validation("UpdateOptions")?;
    let body = body.read().await?;
    let mut object = decoding::object(cx, resource, validation, &body)?;
    prepare::ensure_namespace(resource, &cx.info.namespace, &mut object)?;
    prepare::check_name(&mut object, &cx.info.name)?;
    if resource.strategy.creates_on_update && missing(core, cx, resource).await? {
        object.remove_field(&["metadata", "resourceVersion"]);
        ownership::untracked(&mut object);
        let created = super::create::create_object(core, cx, resource, object, dry_run).await?;
        return render::object(cx, resource, StatusCode::CREATED, created);
    }
    let change = |current: &Value| Ok(ownership::track(cx, resource, current, object.clone()));
    let updated = update_object(core, cx, resource, UpdatePath::Main, &change, dry_run).await?;
    render::object(cx, resource, StatusCode::OK, updated)
}

async fn missing(core: &Core, cx: &Context, resource: &Resource) -> Result<bool, Status> {
    match super::latest(core, cx, resource).await {
        Ok(_) => Ok(false),
        Err(status) if status.is_not_found() => Ok(true),
        Err(status) => Err(status),
    }
}

/// Changes an object; answers the bytes of the stored one.
///
/// # Errors
/// 404, 409 where the new object names a resourceVersion or uid that is not the current one, and what admission or
/// validation refuses.
pub(crate) async fn update_object(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    path: UpdatePath,
    change: Change<'_>,
    dry_run: bool,
) -> Result<Bytes, Status> {
    // The cache may be behind: a refusal counts only if it is about the newest state.
    let key = resource.key(&cx.info.namespace, &cx.info.name);
    let mut newest = false;
    let mut current = match resource.stored("update")?.get(&key) {
        Some(object) => object,
        None => {
            newest = true;
            super::latest(core, cx, resource).await?
        }
    };
    for attempt in 0..ATTEMPTS_LIMIT {
        match attempt_update(core, cx, resource, path, change, dry_run, &current, attempt).await {
            Ok(Outcome::Done(json)) => return Ok(json),
            Ok(Outcome::Changed(Some(found))) => {
                current = found;
                newest = true;
            }
            Ok(Outcome::Changed(None)) => return Err(resource.not_found(&cx.info.name)),
            Ok(Outcome::CompanionChanged) => newest = false,
            outcome @ (Err(_) | Ok(Outcome::Unchanged)) => {
                let found = match newest {
                    true => current.clone(),
                    false => super::latest(core, cx, resource).await?,
                };
                if found.revision == current.revision {
                    return outcome.map(|_| current.json.clone());
                }
                newest = true;
                current = found;
            }
        }
    }
    Err(Status::server_timeout(
        &resource.kind.group,
        &resource.kind.plural,
        "update",
        1,
    ))
}

async fn attempt_update(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    path: UpdatePath,
    change: Change<'_>,
    dry_run: bool,
    current: &Arc<CachedObject>,
    attempt: usize,
) -> Result<Outcome, Status> {
    let old = Arc::new(current.parse());
    let served_old = match resource.conversion {
        None => old.clone(),
        Some(conversion) => {
            let mut served = Value::clone(&old);
            (conversion.from_stored)(&mut served);
            Arc::new(served)
        }
    };
    let mut object = change(&served_old)?;
    check_versions(resource, &mut object, &old)?;
    let mut attributes = chain::attributes(
        cx,
        resource,
        Operation::Update,
        Some(object),
        Some(served_old),
        dry_run,
    );
    if path != UpdatePath::Admitted {
        core.admit(cx, &mut attributes).await?;
    }
    let mut object = attributes.object.take().unwrap_or_default();
    if let Some(conversion) = resource.conversion {
        (conversion.to_stored)(&mut object);
        resource.rules.default(&mut object);
    }
    if path == UpdatePath::Main {
        allocation::carry_over(resource, &mut object, &old);
    }
    let warnings = match path {
        UpdatePath::Main => prepare::update(resource, &mut object, &old)?,
        UpdatePath::Status => prepare::update_status(resource, &mut object, &old)?,
        UpdatePath::Whole | UpdatePath::Admitted => Vec::new(),
    };
    warnings.into_iter().for_each(|sentence| cx.warn(sentence));
    attributes.object = Some(object);
    if path != UpdatePath::Admitted {
        core.validate(&attributes).await?;
    }
    let mut object = attributes.object.take().unwrap_or_default();
    if delete_steps::is_finished(resource, &object, &old) {
        return delete_steps::finish(core, cx, resource, current, &old, dry_run).await;
    }
    let companions = allocation::plan(core, resource, Some(&old), Some(&mut object), attempt)?;
    if object == *old {
        return Ok(Outcome::Unchanged);
    }
    object.remove_field(&["metadata", "resourceVersion"]);
    let value = encode(&object)?;
    if dry_run {
        let json = write_dry(&value, current.revision)?;
        return Ok(Outcome::Done(json));
    }
    write::put(
        core,
        cx,
        resource,
        &current.key,
        current.revision,
        value,
        companions,
    )
    .await
}

/// What a write would have answered: the object at the revision it has.
pub(super) fn write_dry(value: &[u8], revision: u64) -> Result<Bytes, Status> {
    crate::cache::with_resource_version(value, revision)
        .ok_or_else(|| Status::internal_error("an object without metadata"))
}

/// A stale resourceVersion or another uid is a conflict; none at all means whatever is there, where the kind allows it.
fn check_versions(resource: &Resource, object: &mut Value, old: &Value) -> Result<(), Status> {
    let name = old.name().to_owned();
    let uid = object.uid();
    if !uid.is_empty() && uid != old.uid() {
        let kind = &resource.kind;
        return Err(Status::precondition_failed(
            &kind.group,
            &kind.plural,
            &name,
            "UID",
            uid,
            old.uid(),
        ));
    }
    match object.resource_version() {
        "" | "0" if resource.strategy.updates_unconditionally => {
            object.set(&["metadata", "resourceVersion"], old.resource_version());
            Ok(())
        }
        "" | "0" => Err(prepare::missing_resource_version(resource, &name)),
        version if version == old.resource_version() => Ok(()),
        version => {
            crate::options::parse_revision(version)?;
            Err(resource.modified(&name))
        }
    }
}
