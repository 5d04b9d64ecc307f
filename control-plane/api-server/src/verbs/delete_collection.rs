//! deletecollection: every object that a list would show, many at once.

use api_machinery::{ListMeta, Status};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::delete;
use super::list::prefix;
use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::cache::Held;
use crate::core::Core;
use crate::render;
use crate::resource::Resource;
use crate::selection::Selection;

/// Objects that are deleted at the same time, so that the store can flush them together.
const CONCURRENT: usize = 32;

fn unchecked(_: &Value) -> Result<(), Status> {
    Ok(())
}

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    cx.query.check_list(false)?;
    let selection = Selection::new(
        &resource.kind,
        &cx.query.label_selector,
        &cx.query.field_selector,
    )?;
    let options = delete::options(cx, body).await?;
    core.caches
        .catch_up()
        .await
        .map_err(crate::errors::from_feed)?;
    let held = Held {
        prefix: prefix(cx, resource),
        from: None,
        limit: cx.query.limit,
    };
    let selected = resource
        .stored("delete")?
        .select(&held, |object| selection.matches(object));
    let deletes = selected.objects.iter().map(|object| async {
        match delete::delete_object(core, cx, resource, object.name(), &options, &unchecked).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    });
    let running: Vec<_> = deletes.collect();
    stream::iter(running)
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await?;
    let meta = ListMeta {
        resource_version: selected.revision.to_string(),
        ..ListMeta::default()
    };
    render::list(cx, resource, &meta, selected.objects)
}
