//! `status`: the part of an object that its controller writes.

use api_machinery::Status;
use http::StatusCode;

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::resource::Resource;
use crate::verbs::{self, UpdatePath};
use crate::{decoding, ownership, prepare, render};

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    whole_object(core, cx, resource, UpdatePath::Status, body).await
}

/// A subresource that changes the object like a plain update; the kind's rules tell what may change.
pub(super) async fn main(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    whole_object(core, cx, resource, UpdatePath::Main, body).await
}

/// A subresource whose body is the whole object, of which only a part may change.
async fn whole_object(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    path: UpdatePath,
    body: RequestBody,
) -> Result<Answer, Status> {
    let json = match cx.info.verb {
        "get" => verbs::latest(core, cx, resource).await?.json.clone(),
        "patch" => verbs::patch_object(core, cx, resource, path, body).await?,
        _ => {
            let dry_run = cx.query.dry_run("UpdateOptions")?;
            let validation = cx.query.field_validation("UpdateOptions")?;
            let body = body.read().await?;
            let mut object = decoding::object(cx, resource, validation, &body)?;
            prepare::ensure_namespace(resource, &cx.info.namespace, &mut object)?;
            prepare::check_name(&mut object, &cx.info.name)?;
            let change = |current: &serde_json::Value| {
                Ok(ownership::track(cx, resource, current, object.clone()))
            };
            verbs::update_object(core, cx, resource, path, &change, dry_run).await?
        }
    };
    render::object(cx, resource, StatusCode::OK, json)
}
