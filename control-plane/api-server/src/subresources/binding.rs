//! `pods/binding`: gives a pod its node, once.

use api_machinery::{ObjectExt, ObjectMutExt, Status, Timestamp, format_time};
use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::decoding::{self, Expected};
use crate::resource::Resource;
use crate::verbs::{self, UpdatePath};
use crate::{conditions, render};

const EXPECTED: Expected<'static> = Expected {
    api_version: "v1",
    kind: "Binding",
};

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let dry_run = cx.query.dry_run("CreateOptions")?;
    let body = body.read().await?;
    let (mut binding, _) = decoding::parse(cx.content_type(), &body, &EXPECTED)?;
    decoding::check_kind(&mut binding, &EXPECTED)?;
    if binding.name() != cx.info.name {
        return Err(Status::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    if !matches!(binding.text(&["target", "kind"]), "" | "Node") {
        let why = "target.kind: Unsupported value: must be Node or empty";
        return Err(Status::new(500, api_machinery::Reason::Unknown, why));
    }
    if binding.text(&["target", "name"]).is_empty() {
        return Err(Status::new(
            500,
            api_machinery::Reason::Unknown,
            "target.name: Required value",
        ));
    }
    let change = |pod: &Value| bound(resource, pod, &binding);
    verbs::update_object(core, cx, resource, UpdatePath::Whole, &change, dry_run).await?;
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    render::value(cx, StatusCode::CREATED, &done)
}

fn bound(resource: &Resource, pod: &Value, binding: &Value) -> Result<Value, Status> {
    let name = pod.name();
    let refuse = |why: String| Err(Status::conflict("", "pods/binding", name, why));
    let uid = binding.uid();
    if !uid.is_empty() && uid != pod.uid() {
        return Err(Status::precondition_failed(
            "",
            "pods",
            name,
            "UID",
            uid,
            pod.uid(),
        ));
    }
    let version = binding.resource_version();
    if !version.is_empty() && version != pod.resource_version() {
        return Err(resource.modified(name));
    }
    if pod.is_being_deleted() {
        return refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let node = pod.text(&["spec", "nodeName"]);
    if !node.is_empty() {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !pod.list(&["spec", "schedulingGates"]).is_empty() {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    pod.set(&["spec", "nodeName"], binding.text(&["target", "name"]));
    pod.remove_field(&["status", "nominatedNodeName"]);
    for field in ["annotations", "labels"] {
        for (key, value) in binding.map(&["metadata", field]).into_iter().flatten() {
            pod.set(&["metadata", field, key], value.clone());
        }
    }
    let condition = json!({"type": "PodScheduled", "status": "True"});
    conditions::set(&mut pod, condition, &format_time(Timestamp::now()));
    Ok(pod)
}
