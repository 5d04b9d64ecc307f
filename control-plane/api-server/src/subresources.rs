//! Subresources: one file and one row each.

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

/// Plural (`*` for any), subresource, handler.
const TABLE: &[(&str, &str, Handler)] = &[("*", "status", |core, cx, resource, body| {
    Box::pin(status::run(core, cx, resource, body))
})];

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
