//! A micro benchmark of the store in this process: rates and CPU time per operation, with real `fdatasync`.
//!
//! `cargo run --release -p raft-store --example bench_local [-- DIR [SECONDS]]`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_store::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(
        || std::env::temp_dir().join("raft-store-bench"),
        PathBuf::from,
    );
    let seconds = args.next().map_or(Ok(3), |seconds| seconds.parse())?;
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let started = Instant::now();
    let store = Store::open(Config::new(&dir)).await?;
    println!(
        "opened in {:?}, resident {} MiB",
        started.elapsed(),
        resident_mib()
    );
    writes(&store, seconds).await;
    reads(&store, seconds).await;
    watch_fan_out(&store, seconds).await?;
    idle(&store).await;
    store.shutdown().await;
    Ok(())
}

async fn writes(store: &Store, seconds: u64) {
    for clients in [1, 10, 100, 1000] {
        run("put", store, clients, seconds, |store, n| async move {
            let key = Bytes::from(format!("/bench/{:08}", n % 100_000));
            let value = Bytes::from(vec![b'x'; 256]);
            store
                .put(PutRequest {
                    key,
                    value,
                    ..Default::default()
                })
                .await
                .map(drop)
        })
        .await;
    }
    run(
        "txn (read, compare, put)",
        store,
        100,
        seconds,
        |store, n| async move {
            let key = Bytes::from(format!("/txn/{:06}", n % 10_000));
            let read = store
                .range(RangeRequest {
                    range: KeyRange::single(key.clone()),
                    ..Default::default()
                })
                .await?;
            let revision = read.kvs.first().map_or(0, |kv| kv.mod_revision);
            let range = KeyRange::single(key.clone());
            let target = CompareTarget::ModRevision(revision);
            let put = PutRequest {
                key,
                value: Bytes::from(vec![b'x'; 256]),
                ..Default::default()
            };
            let compare = vec![Compare {
                range,
                op: CompareOp::Equal,
                target,
            }];
            let request = TxnRequest {
                compare,
                success: vec![RequestOp::Put(put)],
                ..Default::default()
            };
            store.txn(request).await.map(drop)
        },
    )
    .await;
}

async fn reads(store: &Store, seconds: u64) {
    for clients in [1, 100] {
        run("get", store, clients, seconds, |store, n| async move {
            let range = KeyRange::single(format!("/bench/{:08}", n % 10_000));
            store
                .range(RangeRequest {
                    range,
                    ..Default::default()
                })
                .await
                .map(drop)
        })
        .await;
    }
    run("range of 100", store, 10, seconds, |store, n| async move {
        let start = n % 900 * 10;
        let range = KeyRange::span(
            format!("/bench/{start:08}"),
            format!("/bench/{:08}", start + 100),
        );
        store
            .range(RangeRequest {
                range,
                ..Default::default()
            })
            .await
            .map(drop)
    })
    .await;
}

async fn run<F, Fut>(what: &str, store: &Store, clients: u64, seconds: u64, op: F)
where
    F: Fn(Store, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let done = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (store, done, count, op) = (store.clone(), done.clone(), count.clone(), op.clone());
            tokio::spawn(async move {
                let mut n = client * 7919;
                while !done.load(Ordering::Relaxed) {
                    n += clients;
                    op(store.clone(), n).await.expect("the operation succeeds");
                    count.fetch_add(1, Ordering::Relaxed);
                    // What never waits must give way, as it would behind a socket.
                    tokio::task::consume_budget().await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    done.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no client panics");
    }
    report(
        &format!("{what}, {clients} clients"),
        count.load(Ordering::Relaxed),
        started,
        cpu,
    );
}

async fn watch_fan_out(store: &Store, seconds: u64) -> Result<(), Error> {
    let events = Arc::new(AtomicU64::new(0));
    let watchers = (0..1000).map(|_| {
        let request = WatchRequest {
            range: KeyRange::prefix("/watched/"),
            ..Default::default()
        };
        let (mut watcher, events) = (store.watch(request)?, events.clone());
        Ok(tokio::spawn(async move {
            while let Ok(batch) = watcher.next().await {
                events.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
            }
        }))
    });
    let watchers = watchers.collect::<Result<Vec<_>, Error>>()?;
    let (started, cpu) = (Instant::now(), cpu_seconds());
    while started.elapsed() < Duration::from_secs(seconds) {
        let put = PutRequest {
            key: "/watched/a".into(),
            value: vec![b'x'; 256].into(),
            ..Default::default()
        };
        store.put(put).await?;
    }
    report(
        "events to 1000 watchers",
        events.load(Ordering::Relaxed),
        started,
        cpu,
    );
    watchers.iter().for_each(|watcher| watcher.abort());
    Ok(())
}

async fn idle(store: &Store) {
    let cpu = cpu_seconds();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let share = (cpu_seconds() - cpu) / 5.0 * 100.0;
    println!(
        "idle: {share:.2}% of a core, resident {} MiB, revision {}",
        resident_mib(),
        store.revision()
    );
}

fn report(what: &str, count: u64, started: Instant, cpu_before: f64) {
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
    let rate = count as f64 / elapsed;
    println!(
        "{what}: {rate:.0}/s, {:.1} µs of CPU each, {:.2} cores",
        cpu / count as f64 * 1e6,
        cpu / elapsed
    );
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat =
        std::fs::read_to_string("/proc/self/stat").expect("the kernel tells of this process");
    let fields = stat
        .rsplit(')')
        .next()
        .expect("there is a name in parentheses");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse().unwrap_or(0))
        .sum();
    ticks as f64 / 100.0
}

fn resident_mib() -> u64 {
    let statm =
        std::fs::read_to_string("/proc/self/statm").expect("the kernel tells of this process");
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4096
        / 1024
        / 1024
}
