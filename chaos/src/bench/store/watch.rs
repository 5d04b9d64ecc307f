//! Watch fan-out: every put is seen by every watcher; a round ends when all have seen all.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use xebec_proto::etcdserverpb as pb;

use super::cases::value;
use super::client::{Client, Stream};
use super::load::{Pace, Sample, used};
use super::server::Server;
use super::wire::Wire;
use crate::bench::cpu;

const WATCHERS: usize = 100;
/// How long the last events may be under way.
const DRAIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

struct Seen {
    events: Cell<u64>,
    news: Notify,
}

pub async fn run_watchers(clients: &[Client], prefix: &str) -> Result<Vec<Stream>> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().context("an empty prefix")? += 1;
    let create = pb::WatchCreateRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: end.into(),
        ..Default::default()
    };
    let first = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let mut streams = Vec::new();
    for number in 0..WATCHERS {
        let client = &clients[number % clients.len()];
        let mut stream = client.stream("Watch/Watch", &first).await?;
        let created: Option<pb::WatchResponse> = stream.next().await?;
        if !created.is_some_and(|response| response.created) {
            bail!("a watcher was not created");
        }
        streams.push(stream);
    }
    Ok(streams)
}

pub async fn run(server: &Server, wires: &[Wire], workers: usize, pace: Pace) -> Result<Sample> {
    let watching = server
        .connect(server.urls.len().next_multiple_of(2))
        .await?;
    let streams = run_watchers(&watching, "/watched/").await?;
    let seen = Rc::new(Seen {
        events: Cell::new(0),
        news: Notify::new(),
    });
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn_local(count(stream, seen.clone()));
    }
    let before = cpu::cpu_time(&server.pids)?;
    let start = Instant::now();
    let puts = self::puts(server, wires, workers, pace).await?;
    let expected = puts.count * WATCHERS as u64;
    let all = async {
        while seen.events.get() < expected {
            seen.news.notified().await;
        }
    };
    if timeout(DRAIN_LIMIT, all).await.is_err() {
        bail!("{} of {expected} events arrived", seen.events.get());
    }
    Ok(Sample {
        count: expected,
        elapsed: start.elapsed(),
        cpu: used(server, before)?,
        latency: puts.latency,
    })
}

async fn puts(server: &Server, wires: &[Wire], workers: usize, pace: Pace) -> Result<Sample> {
    let put = |wire: Wire, number: u64| async move {
        let request = pb::PutRequest {
            key: format!("/watched/{:04}", number % 1000).into(),
            value: value(number),
            ..Default::default()
        };
        wire.call("KV/Put", &request).await.map(drop)
    };
    super::load::run(server, wires, workers, pace, put).await
}

async fn count(mut stream: Stream, seen: Rc<Seen>) {
    // The stream's end shows as missing events.
    while let Ok(Some(response)) = stream.next::<pb::WatchResponse>().await {
        seen.events
            .set(seen.events.get() + response.events.len() as u64);
        seen.news.notify_one();
    }
}
