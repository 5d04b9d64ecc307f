//! The end of a run: clients stop, watchers catch up, and every member is asked for its hash and its history.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use xebec_proto::etcdserverpb as pb;

use crate::cluster::{Cluster, ask};
use crate::history::{Event, History, MemberEnd, PREFIX, Space};
use crate::load::{Shared, watcher};

/// A cluster without faults is whole again within this.
const BACK_LIMIT: Duration = Duration::from_secs(60);
/// Leases have all ended after this: the longest, once more in full by a new leader, and some.
const LEASE_LIMIT: Duration = Duration::from_secs(25);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const WATCH_LIMIT: Duration = Duration::from_secs(60);
/// One member tells the whole history within this.
const HISTORY_LIMIT: Duration = Duration::from_secs(120);
/// Clients go on after the last fault, so that what it left is seen.
const AFTER: Duration = Duration::from_secs(2);

pub async fn collect(
    cluster: &mut Cluster,
    shared: &Rc<Shared>,
    mut clients: JoinSet<()>,
    mut watchers: JoinSet<()>,
) -> Result<History> {
    let mut members = Vec::new();
    for number in 0..cluster.members.len() {
        let back = cluster.await_answer(number, BACK_LIMIT).await;
        members.push(MemberEnd {
            name: cluster.members[number].name.clone(),
            missing: back.err().map(|error| format!("{error:#}")),
            ..Default::default()
        });
    }
    sleep_until(Instant::now() + AFTER).await;
    shared.stopping.set(true);
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    let urls = cluster.urls();
    let there = members.iter().position(|member| member.missing.is_none());
    let url = &urls[there.context("no member has come back")?];
    await_leases(url).await?;
    let ended = shared.now();
    let last = revision(url).await?;
    shared.last_revision.set(Some(last));
    let all_watchers = async { while watchers.join_next().await.is_some() {} };
    let caught_up = timeout(WATCH_LIMIT, all_watchers).await.is_ok();
    let events = ask_members(&mut members, &urls, last).await;
    if !caught_up {
        members.push(MemberEnd {
            name: "a watcher".to_owned(),
            missing: Some(format!("not within {WATCH_LIMIT:?} after the last fault")),
            ..Default::default()
        });
    }
    Ok(History {
        operations: shared.operations.take(),
        sessions: shared.sessions.take(),
        gone: shared.gone.take(),
        events,
        members,
        ended,
    })
}

/// Fills in what each member says; the history is that of the first who tells it.
async fn ask_members(members: &mut [MemberEnd], urls: &[String], last: i64) -> Vec<Event> {
    let mut events = Vec::new();
    for (member, url) in members.iter_mut().zip(urls) {
        if member.missing.is_some() {
            continue;
        }
        match told(url, last).await {
            Ok(((hash, revision), found)) => {
                (member.hash, member.hash_revision) = (hash, revision);
                let mut hasher = DefaultHasher::new();
                found.hash(&mut hasher);
                member.events = hasher.finish();
                if events.is_empty() {
                    events = found;
                }
            }
            Err(error) => member.missing = Some(format!("{error:#}")),
        }
    }
    events
}

async fn range(url: &str, request: &pb::RangeRequest) -> Result<pb::RangeResponse> {
    ask(url, "KV/Range", request).await
}

async fn revision(url: &str) -> Result<i64> {
    let read = pb::RangeRequest {
        key: PREFIX.into(),
        ..Default::default()
    };
    Ok(range(url, &read)
        .await?
        .header
        .context("a header")?
        .revision)
}

/// Waits until no key is left that is bound to a lease, or long enough: the checkers say which it was.
async fn await_leases(url: &str) -> Result<()> {
    let deadline = Instant::now() + LEASE_LIMIT;
    while Instant::now() < deadline {
        let mut left = 0;
        for space in [Space::Lease, Space::Leader] {
            let prefix = space.prefix();
            let count = pb::RangeRequest {
                key: prefix.clone().into(),
                range_end: format!("{prefix}~").into(),
                count_only: true,
                ..Default::default()
            };
            left += range(url, &count).await?.count;
        }
        if left == 0 {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The member's hash and history at the revision.
async fn told(url: &str, last: i64) -> Result<((u32, i64), Vec<Event>)> {
    let request = pb::HashKvRequest { revision: last };
    let hash: pb::HashKvResponse = ask(url, "Maintenance/HashKV", &request).await?;
    let events = timeout(HISTORY_LIMIT, watcher::history(url, last)).await;
    let events = events.context("its history")??;
    Ok(((hash.hash, hash.hash_revision), events))
}

/// The whole history as one line of JSON per item.
pub fn save(history: &History, file: &Path) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let mut line = |value: serde_json::Value| -> Result<()> {
        serde_json::to_writer(&mut out, &value)?;
        Ok(out.write_all(b"\n")?)
    };
    for operation in &history.operations {
        line(json!({ "operation": operation }))?;
    }
    for event in &history.events {
        line(json!({ "event": event }))?;
    }
    for session in &history.sessions {
        line(json!({ "session": session }))?;
    }
    for gone in &history.gone {
        line(json!({ "gone": gone }))?;
    }
    Ok(out.flush()?)
}
