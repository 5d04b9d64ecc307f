//! What the store says of itself: watchers that are behind, and what was done.

use std::time::Duration;

use bytes::Bytes;
use raft_store::*;

async fn put(store: &Store, key: &str, bytes: usize) -> i64 {
    let request = PutRequest {
        key: Bytes::from(key.to_owned()),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    };
    store.put(request).await.expect("the put succeeds").revision
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    let done = tokio::time::timeout(limit, work).await;
    done.expect("it takes less time")
}

/// Slow watchers, how far the slowest is behind, events that wait, and queues that were given up.
fn watching(store: &Store) -> [i64; 4] {
    let metrics = store.metrics();
    [
        metrics.slow_watchers.get(),
        metrics.watch_lag.get(),
        metrics.pending_events.get(),
        metrics.watch_overflows.get() as i64,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_whose_queue_holds_too_many_bytes_reads_history_and_loses_nothing() {
    const VALUE_BYTES: usize = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    let request = WatchRequest {
        range: KeyRange::prefix("k"),
        ..Default::default()
    };
    let mut watcher = store.watch(request).unwrap();
    let mut applied = store.applied();
    let fit = limits::WATCH_QUEUE_BYTES / VALUE_BYTES - 1;
    let mut revision = 0;
    for number in 0..fit {
        revision = put(&store, &format!("k{number}"), VALUE_BYTES).await;
    }
    within(applied.wait_for(|now| *now >= revision))
        .await
        .unwrap();
    assert_eq!(watching(&store), [0, fit as i64, fit as i64, 0]);
    // Far fewer revisions than a queue may hold.
    for number in 0..3 {
        revision = put(&store, &format!("kk{number}"), VALUE_BYTES).await;
    }
    within(applied.wait_for(|now| *now >= revision))
        .await
        .unwrap();
    let all = fit as i64 + 3;
    assert_eq!(watching(&store), [1, all, 0, 1]);
    let mut seen = Vec::new();
    while seen.len() < all as usize {
        let batch = within(watcher.next()).await.unwrap();
        seen.extend(batch.events.iter().map(|event| event.kv.mod_revision));
        let behind = i64::from(seen.len() < all as usize);
        assert_eq!(watching(&store)[..2], [behind, revision - batch.revision]);
    }
    assert_eq!(seen, (2..=revision).collect::<Vec<_>>());
    assert_eq!(watching(&store), [0, 0, 0, 1]);
    drop(watcher);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_starts_in_the_past_is_behind_until_it_has_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    let revision = put(&store, "k", 1).await;
    let mut applied = store.applied();
    within(applied.wait_for(|now| *now >= revision))
        .await
        .unwrap();
    let request = WatchRequest {
        range: KeyRange::single("k"),
        start_revision: revision,
        ..Default::default()
    };
    let mut watcher = store.watch(request).unwrap();
    assert_eq!(watching(&store), [1, 1, 0, 0]);
    assert_eq!(within(watcher.next()).await.unwrap().events.len(), 1);
    assert_eq!(watching(&store), [0, 0, 0, 0]);
    drop(watcher);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_operations_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    assert_eq!(store.metrics().revision.get(), store.revision());
    put(&store, "a", 1).await;
    let range = RangeRequest {
        range: KeyRange::all(),
        ..Default::default()
    };
    store.range(range.clone()).await.unwrap();
    store.short_range(&range).await.unwrap();
    let txn = TxnRequest {
        success: vec![
            RequestOp::Range(range.clone()),
            RequestOp::DeleteRange(DeleteRangeRequest {
                range: KeyRange::all(),
                prev_kv: false,
            }),
        ],
        ..Default::default()
    };
    store.txn(txn).await.unwrap();
    let reads = TxnRequest {
        success: vec![RequestOp::Range(range.clone()), RequestOp::Range(range)],
        ..Default::default()
    };
    store.txn(reads).await.unwrap();
    for id in [7, 8] {
        let request = LeaseGrantRequest { id, ttl: 600 };
        store.lease_grant(request).await.unwrap();
    }
    store.lease_keep_alive(7).await.unwrap();
    store.lease_keep_alive(9).await.unwrap();
    store.lease_revoke(8).await.unwrap();
    let metrics = store.metrics();
    let operations = [
        &metrics.puts,
        &metrics.deletes,
        &metrics.ranges,
        &metrics.txns,
    ];
    assert_eq!(operations.map(|counter| counter.get()), [1, 1, 5, 2]);
    let leases = [
        &metrics.leases_granted,
        &metrics.leases_renewed,
        &metrics.leases_revoked,
        &metrics.leases_expired,
    ];
    assert_eq!(leases.map(|counter| counter.get()), [2, 1, 1, 0]);
    assert_eq!(metrics.leases.get(), 1);
    assert_eq!(metrics.queued_commands.get(), 0);
    store.shutdown().await;
}
