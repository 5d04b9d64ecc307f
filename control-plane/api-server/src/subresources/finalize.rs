//! `namespaces/finalize`: takes finalizers out of a namespace's spec; the last one lets it go.

use api_machinery::{ObjectExt, ObjectMutExt, Status};
use http::StatusCode;
use serde_json::Value;

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::resource::Resource;
use crate::verbs::{self, UpdatePath};
use crate::{decoding, prepare, render};

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let dry_run = cx.query.dry_run("UpdateOptions")?;
    let validation = cx.query.field_validation("UpdateOptions")?;
    let body = body.read().await?;
    let mut wanted = decoding::object(cx, resource, validation, &body)?;
    prepare::check_name(&mut wanted, &cx.info.name)?;
    let change = |current: &Value| {
        let mut object = current.clone();
        object.set(&["metadata", "resourceVersion"], wanted.resource_version());
        match wanted.field(&["spec", "finalizers"]) {
            Some(finalizers) => object.set(&["spec", "finalizers"], finalizers.clone()),
            None => drop(object.remove_field(&["spec", "finalizers"])),
        }
        Ok(object)
    };
    let json =
        verbs::update_object(core, cx, resource, UpdatePath::Whole, &change, dry_run).await?;
    render::object(cx, resource, StatusCode::OK, json)
}
