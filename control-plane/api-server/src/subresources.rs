//! Subresources: one file and one row each.

mod approval;
mod binding;
mod eviction;
mod finalize;
mod network_proxy;
mod node_connection;
mod scale;
mod status;

use std::pin::Pin;

use api_machinery::Status;

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::decoding::Expected;
use crate::resource::Resource;
use crate::virtuals;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Answer, Status>> + Send + 'a>>;
type Handler = for<'a> fn(&'a Core, &'a Context, &'a Resource, RequestBody) -> Running<'a>;

macro_rules! handler {
    ($function:path) => {
        |core, cx, resource, body| Box::pin($function(core, cx, resource, body))
    };
}

/// Plural (`*` for any), subresource, handler.
const TABLE: &[(&str, &str, Handler)] = &[
    ("*", "status", handler!(status::run)),
    ("*", "scale", handler!(scale::run)),
    ("pods", "binding", handler!(binding::run)),
    ("pods", "eviction", handler!(eviction::run)),
    ("pods", "log", handler!(node_connection::log)),
    ("pods", "exec", handler!(node_connection::stream)),
    ("pods", "attach", handler!(node_connection::stream)),
    (
        "pods",
        "portforward",
        handler!(node_connection::port_forward),
    ),
    ("pods", "proxy", handler!(network_proxy::pod)),
    ("pods", "ephemeralcontainers", handler!(status::main)),
    ("pods", "resize", handler!(status::main)),
    ("services", "proxy", handler!(network_proxy::service)),
    ("nodes", "proxy", handler!(node_connection::node_proxy)),
    ("namespaces", "finalize", handler!(finalize::run)),
    (
        "certificatesigningrequests",
        "approval",
        handler!(approval::run),
    ),
];

/// Runs a request for a subresource.
///
/// # Errors
/// 404 for those that the kind does not have, 405 for verbs that they do not offer.
pub(crate) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let info = &cx.info;
    let row = resource
        .kind
        .subresource(&info.subresource)
        .ok_or_else(Status::no_such_path)?;
    let offered = row.verbs.iter().any(|verb| verb.as_str() == info.verb);
    if !offered || info.name.is_empty() || (resource.kind.namespaced && info.namespace.is_empty()) {
        return Err(Status::method_not_allowed());
    }
    let handler = TABLE.iter().find(|(plural, name, _)| {
        *name == info.subresource && (*plural == "*" || *plural == info.resource)
    });
    if let Some((_, _, handler)) = handler {
        return handler(core, cx, resource, body).await;
    }
    let plural = format!("{}/{}", info.resource, info.subresource);
    let group = row.group.as_deref().unwrap_or(&resource.kind.group);
    let version = row.version.as_deref().unwrap_or(&resource.version);
    let api_version = api_machinery::group_version(group, version);
    let expected = Expected {
        api_version: &api_version,
        kind: &row.kind,
    };
    virtuals::create(core, cx, &info.group, &plural, &expected, &info.name, body).await
}
