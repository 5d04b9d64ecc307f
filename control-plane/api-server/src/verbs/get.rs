//! get: one object, from the cache.

use std::sync::Arc;

use api_machinery::Status;
use http::StatusCode;

use crate::answer::{Answer, Context};
use crate::cache::CachedObject;
use crate::core::Core;
use crate::render;
use crate::resource::Resource;

pub(super) async fn run(core: &Core, cx: &Context, resource: &Resource) -> Result<Answer, Status> {
    match cx.query.revision()? {
        // Any state will do.
        Some(0) => {}
        Some(revision) => core
            .caches
            .wait_for(revision)
            .await
            .map_err(crate::errors::from_feed)?,
        None => core
            .caches
            .catch_up()
            .await
            .map(drop)
            .map_err(crate::errors::from_feed)?,
    }
    let object = cached(cx, resource)?;
    render::object(cx, resource, StatusCode::OK, object.json.clone())
}

/// The object that a request names, no older than any write that was acknowledged before.
///
/// # Errors
/// 404 where there is none.
pub(crate) async fn latest(
    core: &Core,
    cx: &Context,
    resource: &Resource,
) -> Result<Arc<CachedObject>, Status> {
    core.caches
        .catch_up()
        .await
        .map_err(crate::errors::from_feed)?;
    cached(cx, resource)
}

fn cached(cx: &Context, resource: &Resource) -> Result<Arc<CachedObject>, Status> {
    let key = resource.key(&cx.info.namespace, &cx.info.name);
    resource
        .stored("get")?
        .get(&key)
        .ok_or_else(|| resource.not_found(&cx.info.name))
}
