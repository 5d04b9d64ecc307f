//! Kinds that are asked and not stored (reviews), and subresources that answer a create with an object.

use api_machinery::{Form, ObjectMutExt, Schema, Status, apply_defaults, columns_of, decode};
use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::decoding::{self, Expected};
use crate::plugin::VirtualRequest;
use crate::render;
use crate::resource::Resource;
use crate::table;

pub(crate) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let kind = &resource.kind;
    if kind.plural == "componentstatuses" {
        return component_statuses(cx, resource);
    }
    let expected = Expected {
        api_version: &resource.api_version,
        kind: &kind.kind,
    };
    create(core, cx, &kind.group, &kind.plural, &expected, "", body).await
}

/// Hands a create to whoever answers `plural` (with a subresource behind a slash).
pub(crate) async fn create(
    core: &Core,
    cx: &Context,
    group: &str,
    plural: &str,
    expected: &Expected<'_>,
    name: &str,
    body: RequestBody,
) -> Result<Answer, Status> {
    let Some(answerer) = core
        .virtual_resources
        .iter()
        .find(|v| v.resource() == (group, plural))
    else {
        return Err(Status::not_implemented(plural));
    };
    let dry_run = cx.query.dry_run("CreateOptions")?;
    let validation = cx.query.field_validation("CreateOptions")?;
    let body = body.read().await?;
    let (mut object, mut found) = decoding::parse(cx.content_type(), &body, expected)?;
    decoding::check_kind(&mut object, expected)?;
    let (own_group, version) = expected
        .api_version
        .rsplit_once('/')
        .unwrap_or(("", expected.api_version));
    if let Some(id) = Schema::global().kind(own_group, version, expected.kind) {
        found.extend(
            decode(Schema::global(), id, &mut object, Form::Complete)
                .map_err(|e| Status::bad_request(e.to_string()))?,
        );
        apply_defaults(Schema::global(), id, &mut object);
    }
    decoding::report(cx, validation, &found, expected)?;
    let namespace = cx.info.namespace.as_str();
    let request = VirtualRequest {
        user: &cx.user,
        namespace,
        name,
        object,
        dry_run,
    };
    let mut answer: Value = answerer.create(request).await?;
    answer.set(&["apiVersion"], expected.api_version);
    answer.set(&["kind"], expected.kind);
    render::value(cx, StatusCode::CREATED, &answer)
}

/// Deprecated in Kubernetes; the scheduler, the controllers and the store are parts of this process.
fn component_statuses(cx: &Context, resource: &Resource) -> Result<Answer, Status> {
    cx.warn("v1 ComponentStatus is deprecated in v1.19+");
    let item = |name: &str| {
        json!({
            "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name, "creationTimestamp": null},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
        })
    };
    let columns = columns_of(&resource.kind);
    const NAMES: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];
    if cx.info.name.is_empty() {
        let items: Vec<Value> = NAMES.iter().map(|n| item(n)).collect();
        if let Some(table) = table::of_unstored(cx, columns, &items)? {
            return render::value(cx, StatusCode::OK, &table);
        }
        let list = json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items});
        return render::value(cx, StatusCode::OK, &list);
    }
    if !NAMES.contains(&cx.info.name.as_str()) {
        return Err(resource.not_found(&cx.info.name));
    }
    let item = item(&cx.info.name);
    let table = table::of_unstored(cx, columns, std::slice::from_ref(&item))?;
    render::value(cx, StatusCode::OK, &table.unwrap_or(item))
}
