//! The store from outside: real disk, real threads.

use std::time::Duration;

use bytes::Bytes;
use raft_store::*;

async fn open(dir: &std::path::Path) -> Store {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Only the first test of a process sets it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
    Store::open(Config::new(dir))
        .await
        .expect("the store opens")
}

async fn put(store: &Store, key: &str, value: &str) -> i64 {
    let request = PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        ..Default::default()
    };
    store.put(request).await.expect("the put succeeds").revision
}

async fn get(store: &Store, key: &str) -> Option<KeyValue> {
    let range = KeyRange::single(Bytes::from(key.to_owned()));
    let answer = store
        .range(RangeRequest {
            range,
            ..Default::default()
        })
        .await
        .expect("the range succeeds");
    answer.kvs.into_iter().next()
}

async fn next(watcher: &mut Watcher) -> WatchBatch {
    let batch = tokio::time::timeout(Duration::from_secs(20), watcher.next()).await;
    batch.expect("a batch comes").expect("the watcher goes on")
}

/// Reads batches until everything up to `revision` came; what came, as text.
async fn events_until(watcher: &mut Watcher, revision: i64) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let batch = next(watcher).await;
        for event in &batch.events {
            let kv = &event.kv;
            let kind = if event.kind == EventKind::Put {
                "put"
            } else {
                "delete"
            };
            seen.push(format!(
                "{} {kind} {}",
                kv.mod_revision,
                String::from_utf8_lossy(&kv.key)
            ));
        }
        if batch.revision >= revision {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    assert_eq!(store.revision(), 1);
    assert_eq!(put(&store, "a", "1").await, 2);
    assert_eq!(put(&store, "a", "2").await, 3);
    let granted = store
        .lease_grant(LeaseGrantRequest { id: 5, ttl: 100 })
        .await
        .unwrap();
    assert_eq!((granted.id, granted.ttl, granted.revision), (5, 100, 3));
    let leased = PutRequest {
        key: "leased".into(),
        lease: 5,
        ..Default::default()
    };
    store.put(leased).await.unwrap();
    let hash = store.hash_kv(0).await.unwrap();
    let status = store.status();
    assert_eq!(
        (status.leader, status.revision),
        (Some(status.member_id), 4)
    );
    store.shutdown().await;
    assert_eq!(
        store
            .put(PutRequest {
                key: "a".into(),
                ..Default::default()
            })
            .await,
        Err(Error::Stopped)
    );
    drop(store);

    let store = open(dir.path()).await;
    assert_eq!(store.revision(), 4);
    let kv = get(&store, "a").await.unwrap();
    assert_eq!(
        (
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            &kv.value[..]
        ),
        (2, 3, 2, &b"2"[..])
    );
    assert_eq!(store.hash_kv(0).await.unwrap(), hash);
    assert_eq!(store.status().cluster_id, status.cluster_id);
    let lease = store.lease_time_to_live(5, true).await.unwrap();
    assert_eq!(
        (lease.granted_ttl, lease.keys),
        (100, vec![Bytes::from("leased")])
    );
    assert!(
        lease.ttl >= 98,
        "a new leader gives every lease its full time"
    );
    assert!(matches!(
        Store::open(Config::new(dir.path())).await,
        Err(OpenError::Locked { .. })
    ));
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_entries_and_each_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let tasks: Vec<_> = (0..64)
        .map(|client| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut last = 0;
                for n in 0..20 {
                    let revision = put(&store, &format!("k{client}"), &n.to_string()).await;
                    assert!(revision > last);
                    last = revision;
                    let kv = get(&store, &format!("k{client}")).await.unwrap();
                    assert_eq!(
                        (kv.mod_revision, &kv.value[..]),
                        (revision, n.to_string().as_bytes())
                    );
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.revision(), 1 + 64 * 20);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_finds_nothing_in_the_past_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    let revision = put(&store, "other", "x").await;
    let request = WatchRequest {
        range: KeyRange::prefix("w/"),
        start_revision: 1,
        progress: true,
        ..Default::default()
    };
    let mut watch = store.watch(request).unwrap();
    let batch = watch.next().await.unwrap();
    assert!(batch.events.is_empty());
    assert_eq!(batch.revision, revision);
    drop(watch);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_get_everything_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    // A ring this small sends everyone who is not quick to history.
    config.watch_ring_bytes = 1_000;
    let store = Store::open(config).await.unwrap();
    let watch = |start_revision, no_put| {
        let request = WatchRequest {
            range: KeyRange::prefix("w/"),
            start_revision,
            no_put,
            progress: true,
            ..Default::default()
        };
        store.watch(request).unwrap()
    };
    let mut live = watch(0, false);
    let mut slow = watch(0, false);
    let mut future = watch(600, false);
    let mut deletes = watch(0, true);
    let mut expected = Vec::new();
    for n in 0..2_500 {
        let key = format!("w/{}", n % 7);
        let revision = put(&store, &key, "x").await;
        expected.push(format!("{revision} put {key}"));
        if n % 500 == 0 {
            put(&store, "other", "x").await;
        }
    }
    let range = KeyRange::prefix("w/");
    let deleted = store
        .delete_range(DeleteRangeRequest {
            range,
            prev_kv: false,
        })
        .await
        .unwrap();
    assert_eq!(deleted.deleted, 7);
    let end = deleted.revision;
    expected.extend((0..7).map(|n| format!("{end} delete w/{n}")));
    assert_eq!(events_until(&mut live, end).await, expected);
    assert_eq!(events_until(&mut slow, end).await, expected);
    let from_600: Vec<_> = expected
        .iter()
        .filter(|event| event.split(' ').next().unwrap().parse::<i64>().unwrap() >= 600)
        .cloned()
        .collect();
    assert_eq!(events_until(&mut future, end).await, from_600);
    assert_eq!(events_until(&mut deletes, end).await, expected[2_500..]);
    assert_eq!(
        events_until(&mut watch(1, false), end).await,
        expected,
        "all of it from history"
    );

    // A change that does not concern a watcher still tells it of the revision.
    let other = put(&store, "other", "y").await;
    let batch = next(&mut live).await;
    assert_eq!(
        (batch.revision, batch.events.len(), live.progress()),
        (other, 0, Some(other))
    );

    store.shutdown().await;
    assert_eq!(live.next().await.unwrap_err(), WatchError::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_itself_can_still_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    // Everything but the newest revision comes from disk.
    config.watch_ring_bytes = 1;
    let store = Store::open(config).await.unwrap();
    for n in 0..7 {
        put(&store, &format!("w/{n}"), "x").await;
    }
    let range = KeyRange::prefix("w/");
    let deleted = store
        .delete_range(DeleteRangeRequest {
            range: range.clone(),
            prev_kv: true,
        })
        .await
        .unwrap();
    assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (7, 7));
    let end = deleted.revision;
    put(&store, "other", "x").await;
    store.compact(end, true).await.unwrap();
    let too_old = WatchRequest {
        range: KeyRange::all(),
        start_revision: 5,
        ..Default::default()
    };
    assert_eq!(
        store.watch(too_old).unwrap_err(),
        Error::Compacted {
            compact_revision: end
        }
    );
    let request = WatchRequest {
        range,
        start_revision: end,
        ..Default::default()
    };
    let expected: Vec<_> = (0..7).map(|n| format!("{end} delete w/{n}")).collect();
    assert_eq!(
        events_until(&mut store.watch(request).unwrap(), end).await,
        expected
    );
    let empty = store.watch(WatchRequest {
        range: KeyRange::span("b", "a"),
        ..Default::default()
    });
    assert_eq!(empty.unwrap_err(), Error::EmptyWatchRange);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_end_through_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    config.election_timeout = Duration::from_millis(300);
    config.heartbeat = Duration::from_millis(50);
    let store = Store::open(config).await.unwrap();
    let lease = store
        .lease_grant(LeaseGrantRequest { id: 0, ttl: 0 })
        .await
        .unwrap();
    assert!((lease.ttl, lease.id > 0) == (1, true), "{lease:?}");
    let twice = store
        .lease_grant(LeaseGrantRequest {
            id: lease.id,
            ttl: 5,
        })
        .await;
    assert_eq!(twice.unwrap_err(), Error::LeaseExists);
    for key in ["b", "a"] {
        store
            .put(PutRequest {
                key: key.into(),
                lease: lease.id,
                ..Default::default()
            })
            .await
            .unwrap();
    }
    let request = WatchRequest {
        range: KeyRange::all(),
        ..Default::default()
    };
    let mut watcher = store.watch(request).unwrap();
    assert_eq!(store.lease_keep_alive(lease.id).await.unwrap().ttl, 1);
    let batch = next(&mut watcher).await;
    let keys: Vec<_> = batch
        .events
        .iter()
        .map(|event| (&event.kv.key[..], event.kv.mod_revision))
        .collect();
    assert_eq!(keys, [(&b"a"[..], 4), (&b"b"[..], 4)]);
    assert_eq!(store.lease_keep_alive(lease.id).await.unwrap().ttl, 0);
    assert_eq!(
        store.lease_time_to_live(lease.id, false).await.unwrap().ttl,
        -1
    );
    assert_eq!(
        store.lease_revoke(lease.id).await.unwrap_err(),
        Error::LeaseNotFound
    );
    let too_long = LeaseGrantRequest {
        id: 0,
        ttl: 9_000_000_001,
    };
    assert_eq!(
        store.lease_grant(too_long).await.unwrap_err(),
        Error::LeaseTtlTooLarge
    );
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_purged_and_the_state_survives() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let value = Bytes::from(vec![7; 1_000_000]);
    let mut tasks = Vec::new();
    for n in 0..200 {
        let (store, value) = (store.clone(), value.clone());
        let key = Bytes::from(format!("big{}", n % 10));
        tasks.push(tokio::spawn(async move {
            store
                .put(PutRequest {
                    key,
                    value,
                    ..Default::default()
                })
                .await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let too_large = PutRequest {
        key: "x".into(),
        value: vec![0; 1_600_000].into(),
        ..Default::default()
    };
    assert_eq!(store.put(too_large).await, Err(Error::RequestTooLarge));
    let segments = || std::fs::read_dir(dir.path().join("log")).unwrap().count();
    // 200 MB went through the log in 16 MB segments.
    let purged = tokio::time::timeout(Duration::from_secs(30), async {
        while segments() > 9 {
            put(&store, "tick", "").await;
        }
    });
    purged.await.expect("the log is purged");
    let hash = store.hash_kv(0).await.unwrap();
    store.shutdown().await;
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(store.hash_kv(0).await.unwrap(), hash);
    store.shutdown().await;
}
