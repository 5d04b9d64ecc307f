//! watch: where it starts. What it then sends is `watch_body`.

use std::time::Duration;

use api_machinery::Status;
use http::StatusCode;
use rand::Rng;

use super::list::prefix;
use super::watch_body::{WatchBody, WatchForm};
use crate::answer::{Answer, Context, JSON};
use crate::body::AnswerBody;
use crate::cache::Held;
use crate::core::Core;
use crate::errors::from_feed;
use crate::resource::Resource;
use crate::selection::Selection;

/// How long a watch without `timeoutSeconds` lasts at least; at most twice that, so that not all end together.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

pub(super) async fn run(core: &Core, cx: &Context, resource: &Resource) -> Result<Answer, Status> {
    cx.query.check_list(true)?;
    let query = &cx.query;
    let mut selection =
        Selection::new(&resource.kind, &query.label_selector, &query.field_selector)?;
    let cache = resource.stored("watch")?;
    let held = Held {
        prefix: prefix(cx, resource),
        ..Held::default()
    };
    // The object that the request was allowed for, be it named by the URL or by the field selector, and no other.
    if !cx.info.name.is_empty() {
        selection.require_name(&cx.info.name);
    }
    let interest = selection.interest(resource.kind.namespaced, &prefix(cx, resource));
    let revision = query.revision()?;
    let wants_initial = query
        .send_initial_events
        .unwrap_or(revision.is_none_or(|r| r == 0));
    let start = match (revision, wants_initial) {
        (Some(0), _) => cache.watch_from_now(&held, interest, wants_initial),
        (None, _) => {
            core.caches.catch_up().await.map_err(from_feed)?;
            cache.watch_from_now(&held, interest, wants_initial)
        }
        (Some(revision), true) => {
            core.caches.wait_for(revision).await.map_err(from_feed)?;
            cache.watch_from_now(&held, interest, true)
        }
        (Some(revision), false) => match cache.watch_after(revision, &held, interest) {
            Ok(start) => start,
            Err(oldest) => return Ok(too_old(revision, oldest)),
        },
    };
    let timeout = match query.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => DEFAULT_TIMEOUT + DEFAULT_TIMEOUT.mul_f64(rand::rng().random_range(0.0..1.0)),
    };
    let form = WatchForm::new(core, cx, &cx.info)?;
    let body = WatchBody::new(
        core.caches.clone(),
        start,
        selection,
        form,
        held.prefix,
        timeout,
        query.allow_watch_bookmarks,
        query.send_initial_events == Some(true),
        core.stop.clone(),
        core.metrics.watchers.clone(),
    );
    Ok(Answer::new(
        StatusCode::OK,
        JSON,
        AnswerBody::Stream(Box::pin(body)),
    ))
}

/// A watch that cannot start where it was asked to says so as its only event, as upstream's cache does.
fn too_old(requested: u64, oldest: u64) -> Answer {
    let status = Status::too_old_resource_version(requested, oldest);
    let mut line = b"{\"type\":\"ERROR\",\"object\":".to_vec();
    line.extend_from_slice(&status.to_json());
    line.extend_from_slice(b"}\n");
    Answer::json(StatusCode::OK, line)
}
