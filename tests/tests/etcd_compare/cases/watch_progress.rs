//! What a watch says when nothing happened: progress on request, and by itself.

use anyhow::{Result, ensure};
use xebec_proto::etcdserverpb as pb;

use super::{put, watch_of};
use crate::session::Session;
use crate::watching::Watching;

crate::cases!("watch_progress": when_synced, after_events, for_all_watchers, none_in_the_future, after_cancel, without_watchers, told_when_idle);

async fn when_synced(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("ws", "")).await?;
    watch.next(s).await?;
    watch.ask_progress().await?;
    watch.next(s).await?;
    s.put(put("other", "1")).await?;
    watch.ask_progress().await?;
    watch.next(s).await?;
    Ok(())
}

async fn after_events(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("ae", "")).await?;
    watch.next(s).await?;
    s.put(put("ae", "1")).await?;
    watch.events(s, 1).await?;
    watch.ask_progress().await?;
    watch.next(s).await?;
    Ok(())
}

async fn for_all_watchers(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("fa", "")).await?;
    watch.next(s).await?;
    watch.create(watch_of("fb", "")).await?;
    watch.next(s).await?;
    s.put(put("fb", "1")).await?;
    watch.events(s, 1).await?;
    watch.ask_progress().await?;
    watch.next(s).await?;
    Ok(())
}

/// No answer while one watcher of the stream has not begun.
async fn none_in_the_future(s: &mut Session) -> Result<()> {
    let start_revision = s.base() + 2;
    let request = pb::WatchCreateRequest {
        start_revision,
        ..watch_of("nf", "")
    };
    let mut watch = Watching::open(s, request).await?;
    watch.next(s).await?;
    watch.ask_progress().await?;
    s.put(put("nf", "1")).await?;
    s.put(put("nf", "2")).await?;
    watch.events(s, 1).await?;
    watch.ask_progress().await?;
    watch.next(s).await?;
    Ok(())
}

async fn after_cancel(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("ac", "")).await?;
    watch.next(s).await?;
    watch.cancel(0).await?;
    watch.next(s).await?;
    watch.create(watch_of("ac", "")).await?;
    watch.next(s).await?;
    watch.ask_progress().await?;
    watch.next(s).await?;
    Ok(())
}

/// A stream whose last watcher was cancelled is told the revision, too.
async fn without_watchers(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("wo", "")).await?;
    watch.next(s).await?;
    watch.cancel(0).await?;
    watch.next(s).await?;
    watch.ask_progress().await?;
    watch.next(s).await?;
    Ok(())
}

/// Who asked for it is told from time to time while nothing happens, others are not.
async fn told_when_idle(s: &mut Session) -> Result<()> {
    let request = pb::WatchCreateRequest {
        progress_notify: true,
        watch_id: 3,
        ..watch_of("ti", "")
    };
    let mut watch = Watching::open(s, request).await?;
    watch.next(s).await?;
    watch.create(watch_of("tj", "")).await?;
    watch.next(s).await?;
    for _ in 0..2 {
        watch.next(s).await?;
    }
    s.put(put("ti", "1")).await?;
    // What it is told before the event is older.
    let event = loop {
        let response = watch.response().await?;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if !response.events.is_empty() {
            break response;
        }
        ensure!(revision == s.base(), "{revision} before its event");
    };
    s.message("watch", event)?;
    watch.next(s).await.map(drop)
}
