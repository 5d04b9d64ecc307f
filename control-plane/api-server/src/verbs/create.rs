//! create: a new object, under its own name or one made from `generateName`.

use api_machinery::{ObjectExt, ObjectMutExt, Reason, Status, generate_name};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::plugin::{Attributes, Operation};
use crate::resource::Resource;
use crate::write::{Outcome, encode};
use crate::{allocation, chain, decoding, ownership, prepare, render, write};

/// Names that are made before giving up on a `generateName`.
const GENERATED_NAMES_LIMIT: usize = 8;

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let dry_run = cx.query.dry_run("CreateOptions")?;
    let validation = cx.query.field_validation("CreateOptions")?;
    let body = body.read().await?;
    let mut object = decoding::object(cx, resource, validation, &body)?;
    ownership::untracked(&mut object);
    let created = create_object(core, cx, resource, object, dry_run).await?;
    render::object(cx, resource, StatusCode::CREATED, created)
}

/// Creates a decoded object of the served version; answers the bytes of the stored one.
///
/// # Errors
/// What admission or validation refuses, 409 where the name is taken.
pub(super) async fn create_object(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    mut object: Value,
    dry_run: bool,
) -> Result<Bytes, Status> {
    prepare::ensure_namespace(resource, &cx.info.namespace, &mut object)?;
    if !object.resource_version().is_empty() {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(Status::new(500, Reason::Unknown, why));
    }
    object.remove_field(&["metadata", "resourceVersion"]);
    let mut attributes =
        chain::attributes(cx, resource, Operation::Create, Some(object), None, dry_run);
    attributes.name = attributes
        .object
        .as_ref()
        .map(|o| o.name().to_owned())
        .unwrap_or_default();
    core.admit(cx, &mut attributes).await?;
    let admitted = attributes.object.take().unwrap_or_default();
    let base = generated_base(&admitted);
    if let Some(conversion) = resource.conversion {
        let mut stored = admitted;
        (conversion.to_stored)(&mut stored);
        resource.rules.default(&mut stored);
        return insert(core, cx, resource, attributes, stored, base, dry_run).await;
    }
    insert(core, cx, resource, attributes, admitted, base, dry_run).await
}

/// What a name is to be made from, if it is not given.
fn generated_base(object: &Value) -> Option<String> {
    let base = object.text(&["metadata", "generateName"]);
    (object.name().is_empty() && !base.is_empty()).then(|| base.to_owned())
}

async fn insert(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    mut attributes: Attributes,
    mut object: Value,
    base: Option<String>,
    dry_run: bool,
) -> Result<Bytes, Status> {
    if let Some(base) = &base {
        object.set(&["metadata", "name"], generate_name(base, rand::random()));
    }
    prepare::create(resource, &mut object, Uuid::new_v4().to_string())?
        .into_iter()
        .for_each(|sentence| cx.warn(sentence));
    attributes.name = object.name().to_owned();
    attributes.object = Some(object);
    core.validate(&attributes).await?;
    let mut object = attributes.object.take().unwrap_or_default();
    let mut names = 1;
    for attempt in 0..allocation::PLANS_LIMIT {
        let companions = allocation::plan(core, resource, None, Some(&mut object), attempt)?;
        let name = object.name().to_owned();
        let key = resource.key(&cx.info.namespace, &name);
        let value = encode(&object)?;
        if dry_run {
            return tried(core, resource, &key, &name, value).await;
        }
        match write::put(core, cx, resource, &key, 0, value, companions).await? {
            Outcome::Done(json) => return Ok(json),
            Outcome::CompanionChanged => continue,
            Outcome::Changed(_) | Outcome::Unchanged => {}
        }
        let Some(base) = &base else {
            return Err(Status::already_exists(
                &resource.kind.group,
                &resource.kind.plural,
                &name,
            ));
        };
        if names == GENERATED_NAMES_LIMIT {
            return Err(Status::generate_name_conflict(
                &resource.kind.group,
                &resource.kind.plural,
                &name,
                1,
            ));
        }
        names += 1;
        object.set(&["metadata", "name"], generate_name(base, rand::random()));
    }
    Err(Status::server_timeout(
        &resource.kind.group,
        &resource.kind.plural,
        "create",
        1,
    ))
}

/// What a create would have answered.
async fn tried(
    core: &Core,
    resource: &Resource,
    key: &str,
    name: &str,
    value: Bytes,
) -> Result<Bytes, Status> {
    core.caches
        .catch_up()
        .await
        .map_err(crate::errors::from_feed)?;
    if resource.stored("create")?.get(key).is_some() {
        return Err(Status::already_exists(
            &resource.kind.group,
            &resource.kind.plural,
            name,
        ));
    }
    Ok(value)
}
