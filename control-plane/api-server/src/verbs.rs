//! The verbs of the API: one file each, the same for every kind.

mod apply;
mod create;
mod delete;
mod delete_collection;
mod delete_steps;
mod get;
mod list;
mod list_token;
mod patch;
mod update;
mod watch;
mod watch_body;

use api_machinery::{Status, Verb};

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::resource::Resource;
use crate::{pipeline, subresources, virtuals};

pub(crate) use delete::delete_object;
pub(crate) use get::latest;
pub(crate) use patch::patch_object;
pub(crate) use update::{UpdatePath, update_object};

/// Runs the verb of a resource request.
///
/// # Errors
/// The `Status` that the client gets.
pub(crate) async fn run(core: &Core, cx: Context, body: RequestBody) -> Result<Answer, Status> {
    let info = &cx.info;
    let resource = core
        .resources
        .get(&info.group, &info.version, &info.resource)
        .ok_or_else(Status::no_such_path)?;
    if !resource.kind.namespaced && !info.namespace.is_empty() && info.resource != "namespaces" {
        return Err(Status::no_such_path());
    }
    let accepted = crate::negotiate::Accepted::of(&cx.headers);
    let cx = Context {
        accepted: accepted.clone().unwrap_or_default(),
        ..cx
    };
    let mut answer = if cx.info.subresource.is_empty() {
        accepted?;
        run_verb(core, &cx, resource, body).await?
    } else {
        subresources::run(core, &cx, resource, body).await?
    };
    pipeline::add_warnings(&mut answer, &cx.warnings.lock());
    Ok(answer)
}

async fn run_verb(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    check_verb(resource, cx)?;
    if resource.cache.is_none() {
        return virtuals::run(core, cx, resource, body).await;
    }
    match cx.info.verb {
        "get" => get::run(core, cx, resource).await,
        "list" => list::run(core, cx, resource).await,
        "watch" => watch::run(core, cx, resource).await,
        "create" => create::run(core, cx, resource, body).await,
        "update" => update::run(core, cx, resource, body).await,
        "patch" => patch::run(core, cx, resource, body).await,
        "delete" => delete::run(core, cx, resource, body).await,
        "deletecollection" => delete_collection::run(core, cx, resource, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Refuses verbs that the kind does not offer, and those that need a namespace or name where there is none.
fn check_verb(resource: &Resource, cx: &Context) -> Result<(), Status> {
    let info = &cx.info;
    let verb = match info.verb {
        "get" => Verb::Get,
        "list" => Verb::List,
        "watch" => Verb::Watch,
        "create" => Verb::Create,
        "update" => Verb::Update,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        _ => return Err(Status::method_not_allowed()),
    };
    let everywhere = resource.kind.namespaced && info.namespace.is_empty();
    let misplaced = match verb {
        Verb::List | Verb::Watch => false,
        // Upstream takes cluster-wide creates of namespaced kinds for review kinds only.
        Verb::Create => everywhere || !info.name.is_empty() && info.resource != "namespaces",
        Verb::DeleteCollection => everywhere,
        _ => everywhere,
    };
    let named_namespace =
        info.resource == "namespaces" && verb == Verb::Create && !info.name.is_empty();
    if !resource.kind.verbs.contains(verb) || misplaced || named_namespace {
        return Err(Status::method_not_allowed());
    }
    Ok(())
}
