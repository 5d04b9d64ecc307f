//! What a watch says when nothing happened: progress on request.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;

use super::{put, watch_of};
use crate::session::Session;
use crate::watching::Watching;

crate::cases!("watch_progress": when_synced, after_events, for_all_watchers, none_in_the_future, after_cancel);

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
