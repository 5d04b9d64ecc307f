//! deletecollection: every object that a list would show, one after the other.

use api_machinery::{ListMeta, Status};

use super::delete;
use super::list::prefix;
use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::cache::Held;
use crate::core::Core;
use crate::render;
use crate::resource::Resource;
use crate::selection::Selection;

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
    for object in &selected.objects {
        match delete::delete_object(core, cx, resource, object.name(), &options, &|_| Ok(())).await
        {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    let meta = ListMeta {
        resource_version: selected.revision.to_string(),
        ..ListMeta::default()
    };
    render::list(cx, resource, &meta, selected.objects)
}
