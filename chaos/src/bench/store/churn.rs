//! Churn: many updates of few keys, history cut off again and again. What counts is the size of the data directory and
//! the longest time in which no update was answered.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use xebec_proto::etcdserverpb as pb;

use super::cases::{KEYS, put_request};
use super::client::Client;
use super::server::Server;

const CLIENTS: u64 = 100;
/// Directory sizes are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// A directory has come to rest when it has not become smaller for so long.
const REST: Duration = Duration::from_secs(5);

/// What churn left.
#[derive(Debug, Default)]
pub struct Churn {
    pub updates: u64,
    pub elapsed: Duration,
    /// Longest time without any answer.
    pub stall: Duration,
    /// Slowest single update.
    pub slowest: Duration,
    /// Bytes of keys and values, newest versions only.
    pub live: u64,
    /// Bytes of keys and values since the last compaction, just before the next: the most history that was kept.
    pub history: u64,
    /// Largest directory, bytes.
    pub largest: u64,
    /// Directory at the end, after the last compaction, once it has come to rest.
    pub last: u64,
    pub compactions: u64,
}

/// What the clients of a run share.
struct Progress {
    next: Cell<u64>,
    answered: Cell<u64>,
    last_answer: Cell<Instant>,
    stall: Cell<Duration>,
    slowest: Cell<Duration>,
    revision: Cell<i64>,
}

pub async fn run(server: &Server, updates: u64, compact_every: Duration) -> Result<Churn> {
    let clients = server.connect(4 * server.urls.len()).await?;
    // What earlier cases left is history that this one does not count.
    let newest = clients[0].put(&put_request(0)).await?.header;
    let newest = newest.map_or(0, |header| header.revision);
    compact(&clients[0], newest, true).await?;
    come_to_rest(server).await;
    let start = Instant::now();
    let progress = Rc::new(Progress {
        next: Cell::new(0),
        answered: Cell::new(0),
        last_answer: Cell::new(start),
        stall: Cell::default(),
        slowest: Cell::default(),
        revision: Cell::new(0),
    });
    let mut tasks = JoinSet::new();
    for number in 0..CLIENTS {
        let client = clients[number as usize % clients.len()].clone();
        tasks.spawn_local(update(client, progress.clone(), updates));
    }
    let row = put_request(0);
    let row_bytes = (row.key.len() + row.value.len()) as u64;
    let mut found = Churn {
        live: KEYS * row_bytes,
        ..Default::default()
    };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut compacted_at = (start, 0);
    loop {
        tokio::select! {
            done = tasks.join_next() => match done {
                Some(done) => done??,
                None => break,
            },
            now = looks.tick() => {
                let answered = progress.answered.get();
                found.largest = found.largest.max(server.disk());
                found.history = found.history.max((answered - compacted_at.1) * row_bytes);
                if now.duration_since(compacted_at.0) >= compact_every {
                    compact(&clients[0], progress.revision.get(), false).await?;
                    compacted_at = (now, answered);
                    found.compactions += 1;
                }
            }
        }
    }
    found.elapsed = start.elapsed();
    found.updates = progress.answered.get();
    (found.stall, found.slowest) = (progress.stall.get(), progress.slowest.get());
    compact(&clients[0], progress.revision.get(), true).await?;
    found.last = come_to_rest(server).await;
    Ok(found)
}

/// Waits until the server has given back the space of what was removed; the directory's size then.
async fn come_to_rest(server: &Server) -> u64 {
    let mut smallest = server.disk();
    let mut since = Instant::now();
    let mut looks = interval(LOOK);
    while since.elapsed() < REST {
        looks.tick().await;
        let now = server.disk();
        if now < smallest {
            (smallest, since) = (now, Instant::now());
        }
    }
    server.disk()
}

async fn compact(client: &Client, revision: i64, physical: bool) -> Result<()> {
    let request = pb::CompactionRequest { revision, physical };
    client
        .unary::<pb::CompactionResponse>("KV/Compact", &request)
        .await
        .map(drop)
}

async fn update(client: Client, progress: Rc<Progress>, updates: u64) -> Result<()> {
    loop {
        let number = progress.next.replace(progress.next.get() + 1);
        if number >= updates {
            return Ok(());
        }
        let begun = Instant::now();
        let answer = client.put(&put_request(number)).await?;
        let now = Instant::now();
        let silent = now - progress.last_answer.replace(now);
        progress.stall.set(progress.stall.get().max(silent));
        progress
            .slowest
            .set(progress.slowest.get().max(now - begun));
        progress.answered.set(progress.answered.get() + 1);
        let revision = answer.header.map_or(0, |header| header.revision);
        progress.revision.set(progress.revision.get().max(revision));
    }
}
