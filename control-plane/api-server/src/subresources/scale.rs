//! `scale`: how many replicas a workload wants, in the same form for all of them (`kubectl scale`, autoscalers).

use api_machinery::{
    LabelSelector, ObjectExt, ObjectMutExt, Status, apply_merge_patch, parse_merge_patch,
    scale_columns,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::decoding::{self, Expected};
use crate::negotiate::media_type;
use crate::ownership;
use crate::render;
use crate::resource::Resource;
use crate::table;
use crate::verbs::{self, UpdatePath};

const EXPECTED: Expected<'static> = Expected {
    api_version: "autoscaling/v1",
    kind: "Scale",
};

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    if cx.info.verb == "get" {
        let object = verbs::latest(core, cx, resource).await?;
        return answer(cx, scale_of(resource, &object.parse()));
    }
    let dry_run = cx.query.dry_run("UpdateOptions")?;
    let body = body.read().await?;
    let is_patch = cx.info.verb == "patch";
    let wanted = match is_patch {
        true if media_type(cx.content_type()) == "application/json-patch+json" => {
            Wanted::JsonPatch(api_machinery::JsonPatch::parse(&body)?)
        }
        true => Wanted::Patch(parse_merge_patch(&body)?),
        false => {
            let (mut scale, _) = decoding::parse(cx.content_type(), &body, &EXPECTED)?;
            decoding::check_kind(&mut scale, &EXPECTED)?;
            Wanted::Scale(scale)
        }
    };
    let change = |current: &Value| {
        let scale = match &wanted {
            Wanted::Scale(scale) => scale.clone(),
            Wanted::Patch(patch) => apply_merge_patch(&scale_of(resource, current), patch),
            Wanted::JsonPatch(patch) => patch.apply(&scale_of(resource, current))?,
        };
        let object = changed(resource, current, &scale)?;
        Ok(ownership::track(cx, resource, current, object))
    };
    let json = verbs::update_object(core, cx, resource, UpdatePath::Main, &change, dry_run).await?;
    let object: Value = serde_json::from_slice(&json).map_err(Status::internal_error)?;
    answer(cx, scale_of(resource, &object))
}

fn answer(cx: &Context, scale: Value) -> Result<Answer, Status> {
    let table = table::of_unstored(cx, scale_columns(), std::slice::from_ref(&scale))?;
    render::value(cx, StatusCode::OK, &table.unwrap_or(scale))
}

enum Wanted {
    Scale(Value),
    Patch(Value),
    JsonPatch(api_machinery::JsonPatch),
}

/// The object with the replicas of `scale`, under the conditions that it names.
fn changed(resource: &Resource, current: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale.number(&["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let path = api_machinery::FieldPath::root("spec.replicas");
        let why = "must be greater than or equal to 0";
        let error = api_machinery::FieldError::invalid(&path, replicas, why);
        return Err(Status::invalid(
            "autoscaling",
            "Scale",
            current.name(),
            &[error],
        ));
    }
    let name = scale.name();
    if !name.is_empty() && name != current.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            current.name()
        )));
    }
    let version = scale.resource_version();
    if !version.is_empty() && version != current.resource_version() {
        return Err(resource.modified(current.name()));
    }
    let mut object = current.clone();
    object.set(&["spec", "replicas"], replicas);
    if !scale.uid().is_empty() {
        object.set(&["metadata", "uid"], scale.uid());
    }
    Ok(object)
}

fn scale_of(resource: &Resource, object: &Value) -> Value {
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object.name(),
            "namespace": object.namespace(),
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "creationTimestamp": object.creation_timestamp(),
        },
        "spec": {},
        "status": {"replicas": object.number(&["status", "replicas"]).unwrap_or(0)},
    });
    if let Some(replicas) = object.number(&["spec", "replicas"]).filter(|r| *r != 0) {
        scale.set(&["spec", "replicas"], replicas);
    }
    let selector = match resource.is("", "replicationcontrollers") {
        true => LabelSelector::from_map(object.map(&["spec", "selector"])),
        false => LabelSelector::from_object(object.field(&["spec", "selector"])),
    };
    if let Some(selector) = selector.ok().filter(|s| !s.is_everything()) {
        scale.set(&["status", "selector"], selector.to_string());
    }
    scale
}
