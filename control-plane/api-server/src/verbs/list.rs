//! list: objects of a kind at one revision, in pages where asked for.

use std::sync::Arc;

use api_machinery::{ListMeta, Status};
use bytes::Bytes;

use super::list_token::ContinueToken;
use crate::answer::{Answer, Context};
use crate::cache::{CachedObject, Held, Selected};
use crate::core::Core;
use crate::errors::{from_feed, from_store};
use crate::options::VersionMatch;
use crate::render;
use crate::resource::Resource;
use crate::selection::Selection;
use crate::store::{Entry, KeyRange, StoreError};

pub(super) async fn run(core: &Core, cx: &Context, resource: &Resource) -> Result<Answer, Status> {
    cx.query.check_list(false)?;
    let query = &cx.query;
    let selection = Selection::new(&resource.kind, &query.label_selector, &query.field_selector)?;
    let mut held = Held {
        prefix: prefix(cx, resource),
        from: None,
        limit: query.limit,
    };
    let revision = query.revision()?;
    let (selected, keeps_revision) = if query.continue_token.is_empty() {
        let selected = match (revision, query.version_match()) {
            (Some(exact), Some(VersionMatch::Exact)) => {
                at(core, resource, exact, &held, &selection).await?
            }
            (Some(exact), None) if exact > 0 && query.limit > 0 => {
                at(core, resource, exact, &held, &selection).await?
            }
            _ => newest(core, resource, revision, &held, &selection).await?,
        };
        (selected, true)
    } else {
        if revision.is_some_and(|r| r != 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let token = ContinueToken::decode(&query.continue_token)?;
        held.from = Some(format!("{}{}", held.prefix, token.start));
        (
            resume(core, resource, &token, &held, &selection).await?,
            token.revision.is_some(),
        )
    };
    let meta = meta(&selected, &held, &selection, keeps_revision);
    render::list(cx, resource, &meta, selected.objects)
}

/// The prefix of the keys that the request is about.
pub(super) fn prefix(cx: &Context, resource: &Resource) -> String {
    match resource.kind.namespaced && !cx.info.namespace.is_empty() {
        true => format!("{}/", cx.info.namespace),
        false => String::new(),
    }
}

fn meta(selected: &Selected, held: &Held, selection: &Selection, keeps_revision: bool) -> ListMeta {
    let mut meta = ListMeta {
        resource_version: selected.revision.to_string(),
        ..ListMeta::default()
    };
    if let (true, Some(last)) = (selected.more, selected.objects.last()) {
        let last = last
            .key
            .strip_prefix(held.prefix.as_str())
            .unwrap_or(&last.key);
        let revision = keeps_revision.then_some(selected.revision);
        meta.continue_token = ContinueToken::after(revision, last).encode();
        // With selectors nobody has counted what matches.
        meta.remaining_item_count = selection
            .is_everything()
            .then(|| i64::try_from(selected.remaining).unwrap_or(i64::MAX));
    }
    meta
}

async fn newest(
    core: &Core,
    resource: &Resource,
    not_older: Option<u64>,
    held: &Held,
    selection: &Selection,
) -> Result<Selected, Status> {
    match not_older {
        Some(0) => {}
        Some(revision) => core.caches.wait_for(revision).await.map_err(from_feed)?,
        None => core.caches.catch_up().await.map(drop).map_err(from_feed)?,
    }
    select(resource, held, selection)
}

fn select(resource: &Resource, held: &Held, selection: &Selection) -> Result<Selected, Status> {
    let cache = resource.stored("list")?;
    Ok(match selection.is_everything() {
        true => cache.select(held, |_| true),
        false => cache.select(held, |object| selection.matches(object)),
    })
}

async fn resume(
    core: &Core,
    resource: &Resource,
    token: &ContinueToken,
    held: &Held,
    selection: &Selection,
) -> Result<Selected, Status> {
    let Some(revision) = token.revision else {
        return newest(core, resource, None, held, selection).await;
    };
    at(core, resource, revision, held, selection)
        .await
        .map_err(|status| {
            if !status.is_expired() {
                return status;
            }
            let go_on = ContinueToken {
                revision: None,
                start: token.start.clone(),
            };
            Status::continue_expired(Some(go_on.encode()))
        })
}

/// The state at a revision: from the cache where it still knows, else from the store.
async fn at(
    core: &Core,
    resource: &Resource,
    revision: u64,
    held: &Held,
    selection: &Selection,
) -> Result<Selected, Status> {
    core.caches.wait_for(revision).await.map_err(from_feed)?;
    let cache = resource.stored("list")?;
    if let Some(selected) = cache.select_at(revision, held, |object| selection.matches(object)) {
        return Ok(selected);
    }
    let mut range = KeyRange::prefix(format!("{}{}", cache.prefix, held.prefix).as_bytes());
    if let Some(from) = &held.from {
        range.start = Bytes::from(format!("{}{from}", cache.prefix));
    }
    let read = core
        .store
        .range(range, 0, revision)
        .await
        .map_err(|error| match error {
            StoreError::Compacted { .. } => Status::list_expired(),
            other => from_store(other),
        })?;
    let objects = read
        .entries
        .iter()
        .filter_map(|entry| stored_object(&cache.prefix, entry));
    let mut selected = Selected {
        revision,
        ..Selected::default()
    };
    for object in objects {
        let full = held.limit > 0 && selected.objects.len() >= held.limit;
        selected.remaining += usize::from(full);
        if !selection.matches(&object) {
            continue;
        }
        match full {
            true => selected.more = true,
            false => selected.objects.push(Arc::new(object)),
        }
    }
    Ok(selected)
}

fn stored_object(prefix: &str, entry: &Entry) -> Option<CachedObject> {
    let key = std::str::from_utf8(&entry.key).ok()?.strip_prefix(prefix)?;
    CachedObject::new(key.into(), entry)
}
