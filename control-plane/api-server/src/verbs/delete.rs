//! delete: one object, with preconditions.

use std::sync::Arc;

use api_machinery::{ObjectExt, Status, Timestamp};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::delete_steps::{Step, carry_out, decide, gone};
use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::cache::CachedObject;
use crate::core::Core;
use crate::decoding::Expected;
use crate::options::DeleteOptions;
use crate::plugin::Operation;
use crate::resource::Resource;
use crate::write::Outcome;
use crate::{chain, decoding, render};

/// Times that a delete is tried again because the object changed meanwhile.
const ATTEMPTS_LIMIT: usize = 64;

const OPTIONS: Expected<'static> = Expected {
    api_version: "v1",
    kind: "DeleteOptions",
};

/// What a delete did.
pub(crate) struct Deleted {
    /// The object's last or marked state.
    pub json: Bytes,
    /// Whether it is gone.
    pub removed: bool,
    pub uid: String,
}

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let options = options(cx, body).await?;
    let deleted = delete_object(core, cx, resource, &cx.info.name, &options, &|_| Ok(())).await?;
    if deleted.removed && !resource.strategy.returns_deleted {
        return render::value(
            cx,
            StatusCode::OK,
            &gone(resource, &cx.info.name, &deleted.uid),
        );
    }
    let accepted = !deleted.removed && options.orphan_dependents == Some(false);
    let status = if accepted {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    render::object(cx, resource, status, deleted.json)
}

/// The options of a delete, from its body or its query.
pub(super) async fn options(cx: &Context, body: RequestBody) -> Result<DeleteOptions, Status> {
    let body = body.read().await?;
    if body.is_empty() {
        return DeleteOptions::new(None, &cx.query);
    }
    let (value, _) = decoding::parse(cx.content_type(), &body, &OPTIONS)?;
    DeleteOptions::new(Some(&value), &cx.query)
}

/// Looks at an object before it is deleted; an error keeps it.
pub(crate) type Check<'a> = &'a (dyn Fn(&Value) -> Result<(), Status> + Send + Sync);

/// Deletes the object `name` in the request's namespace.
///
/// # Errors
/// 404, 409 where a precondition does not hold, and what admission or `check` refuses.
pub(crate) async fn delete_object(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    name: &str,
    options: &DeleteOptions,
    check: Check<'_>,
) -> Result<Deleted, Status> {
    let key = resource.key(&cx.info.namespace, name);
    let cache = resource.stored("delete")?;
    let mut current = cache.get(&key);
    let mut newest = current.is_none();
    for _ in 0..ATTEMPTS_LIMIT {
        if newest && current.is_none() {
            core.caches
                .catch_up()
                .await
                .map_err(crate::errors::from_feed)?;
            current = cache.get(&key);
        }
        let Some(found) = &current else {
            return Err(resource.not_found(name));
        };
        let outcome = attempt(core, cx, resource, found, options, check).await;
        match outcome {
            Ok((Outcome::Done(json), removed, uid)) => return Ok(Deleted { json, removed, uid }),
            Ok((Outcome::Changed(None), ..)) => return Err(resource.not_found(name)),
            Ok((Outcome::Changed(changed), ..)) => {
                current = changed;
                newest = true;
            }
            Ok((Outcome::CompanionChanged, ..)) => {}
            other => {
                if !newest {
                    core.caches
                        .catch_up()
                        .await
                        .map_err(crate::errors::from_feed)?;
                    newest = true;
                    let again = cache.get(&key);
                    if again.as_ref().map(|o| o.revision) != Some(found.revision) {
                        current = again;
                        continue;
                    }
                }
                let json = found.json.clone();
                return other.map(|(_, _, uid)| Deleted {
                    json,
                    removed: false,
                    uid,
                });
            }
        }
    }
    Err(Status::server_timeout(
        &resource.kind.group,
        &resource.kind.plural,
        "delete",
        1,
    ))
}

async fn attempt(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    current: &Arc<CachedObject>,
    options: &DeleteOptions,
    check: Check<'_>,
) -> Result<(Outcome, bool, String), Status> {
    let object = current.parse();
    preconditions(resource, &object, options)?;
    check(&object)?;
    let uid = object.uid().to_owned();
    // A delete through a subresource is an eviction, which was admitted as such.
    if !core.plugins.is_empty() && cx.info.subresource.is_empty() {
        let mut served = object.clone();
        if let Some(conversion) = resource.conversion {
            (conversion.from_stored)(&mut served);
        }
        let mut attributes = chain::attributes(
            cx,
            resource,
            Operation::Delete,
            None,
            Some(Arc::new(served)),
            options.dry_run,
        );
        attributes.name = object.name().to_owned();
        core.admit(cx, &mut attributes).await?;
        core.validate(&attributes).await?;
    }
    let step = decide(resource, &object, options, Timestamp::now());
    let removes = matches!(step, Step::Remove);
    let outcome = carry_out(core, cx, resource, current, &object, step, options.dry_run).await?;
    Ok((outcome, removes, uid))
}

fn preconditions(
    resource: &Resource,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let conflict = |why: String| {
        Err(Status::conflict(
            &resource.kind.group,
            &resource.kind.kind,
            object.name(),
            why,
        ))
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != object.uid()) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted \
             and then recreated",
            object.uid()
        ));
    }
    if let Some(version) = options
        .resource_version
        .as_deref()
        .filter(|v| *v != object.resource_version())
    {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The \
             object might have been modified",
            object.resource_version()
        ));
    }
    Ok(())
}
