//! `certificatesigningrequests/approval`: the conditions that say whether a certificate may be signed.

use api_machinery::{ObjectExt, ObjectMutExt, Status, Timestamp, format_time};
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
    let json = match cx.info.verb {
        "get" => verbs::latest(core, cx, resource).await?.json.clone(),
        "patch" => verbs::patch_object(core, cx, resource, UpdatePath::Status, body).await?,
        _ => {
            let dry_run = cx.query.dry_run("UpdateOptions")?;
            let validation = cx.query.field_validation("UpdateOptions")?;
            let body = body.read().await?;
            let mut wanted = decoding::object(cx, resource, validation, &body)?;
            prepare::check_name(&mut wanted, &cx.info.name)?;
            let change = |current: &Value| Ok(approved(current, &wanted));
            verbs::update_object(core, cx, resource, UpdatePath::Whole, &change, dry_run).await?
        }
    };
    render::object(cx, resource, StatusCode::OK, json)
}

/// The current request with the conditions of `wanted`, which get their times here.
fn approved(current: &Value, wanted: &Value) -> Value {
    let now = format_time(Timestamp::now());
    let mut conditions = wanted.list(&["status", "conditions"]).to_vec();
    for condition in &mut conditions {
        for time in ["lastUpdateTime", "lastTransitionTime"] {
            if condition.text(&[time]).is_empty() {
                condition.set(&[time], now.as_str());
            }
        }
    }
    let mut object = current.clone();
    object.set(&["metadata", "resourceVersion"], wanted.resource_version());
    object.set(&["status", "conditions"], conditions);
    object
}
