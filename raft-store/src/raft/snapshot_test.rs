//! A member takes over another's state: nothing is lost, watchers go on, a damaged file changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use openraft::storage::RaftStateMachine;

use super::snapshot::StateSnapshot;
use crate::data_dir::DataDir;
use crate::engine::Engine;
use crate::mvcc::apply::Mvcc;
use crate::mvcc::hash;
use crate::snapshot::{Receiver, SnapshotError};
use crate::*;

const CLUSTER: u64 = 7;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

async fn open(dir: &Path) -> Store {
    let mut config = Config::new(dir);
    config.expected_cluster_id = Some(CLUSTER);
    Store::open(config).await.unwrap()
}

async fn put(store: &Store, key: &str, value: &[u8]) -> i64 {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
        ..Default::default()
    };
    store.put(request).await.unwrap().revision
}

async fn bytes_of(store: &Store) -> Vec<u8> {
    let mut stream = store.snapshot().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(bytes.len() as u64, stream.size);
    bytes
}

/// A store with history, a lease, deletions and a floor.
async fn sample(dir: &Path) -> Store {
    let store = open(dir).await;
    for n in 0..300 {
        put(&store, &format!("k{}", n % 20), &[b'v'; 2000]).await;
    }
    let lease = LeaseGrantRequest { id: 5, ttl: 1000 };
    store.lease_grant(lease).await.unwrap();
    let request = DeleteRangeRequest {
        range: KeyRange::single("k3"),
        prev_kv: false,
    };
    store.delete_range(request).await.unwrap();
    store.compact(100, true).await.unwrap();
    store
}

fn receive(
    folder: &Path,
    id: u64,
    bytes: &[u8],
) -> Result<crate::snapshot::Received, SnapshotError> {
    let mut receiver = Receiver::begin(folder, id)?;
    for chunk in bytes.chunks(10_000) {
        receiver.write(receiver.offset(), chunk)?;
    }
    receiver.finish(CLUSTER)
}

async fn install(store: &Store, received: crate::snapshot::Received) -> std::io::Result<()> {
    let snapshot = StateSnapshot::received(received);
    let raft = store.raft();
    let done = raft.with_state_machine(|state_machine| {
        Box::pin(async move {
            state_machine
                .install_snapshot(&snapshot.meta, snapshot.snapshot)
                .await
        })
    });
    done.await.unwrap()
}

async fn watched(watcher: &mut Watcher, until: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| *last < until) {
        let batch = tokio::time::timeout(PATIENCE, watcher.next()).await;
        let batch = batch.expect("a batch comes").unwrap();
        seen.extend(batch.events.iter().map(|event| event.kv.mod_revision));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_taken_over_and_watchers_go_on() {
    let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (sample(dirs.0.path()).await, open(dirs.1.path()).await);
    for n in 0..120 {
        put(&to, &format!("k{}", n % 20), b"old").await;
    }
    let early = WatchRequest {
        range: KeyRange::all(),
        start_revision: 2,
        ..Default::default()
    };
    let (mut ahead, mut behind) = (
        to.watch(WatchRequest {
            start_revision: 0,
            ..early.clone()
        })
        .unwrap(),
        to.watch(early.clone()).unwrap(),
    );
    assert_eq!(watched(&mut behind, 121).await.last(), Some(&121));
    let mut lost = to.watch(early).unwrap();
    let held = to
        .range_serializable(&RangeRequest {
            range: KeyRange::all(),
            ..Default::default()
        })
        .unwrap();
    assert_eq!(held.revision, 121);

    let bytes = bytes_of(&from).await;
    let received = receive(&dirs.1.path().join("snap"), 1, &bytes).unwrap();
    install(&to, received).await.unwrap();

    assert_eq!(to.revision(), from.revision());
    assert_eq!(to.hash_kv(0).await.unwrap(), from.hash_kv(0).await.unwrap());
    assert_eq!(to.lease_leases().await.unwrap().ids, [5]);
    let expected: Vec<i64> = (122..=302).collect();
    assert_eq!(watched(&mut behind, 302).await, expected);
    assert_eq!(watched(&mut ahead, 302).await, expected);
    let compacted = WatchError::Compacted {
        compact_revision: 100,
    };
    assert_eq!(lost.next().await.unwrap_err(), compacted);
    assert!(!dirs.1.path().join("snap/0000000000000001.part").exists());
    assert_eq!(fs::read_dir(dirs.1.path().join("snap")).unwrap().count(), 0);

    let hash = from.hash_kv(0).await.unwrap();
    to.shutdown().await;
    drop((to, ahead, behind, lost));
    let data_dir = DataDir::open(dirs.1.path(), Some(CLUSTER), || unreachable!()).unwrap();
    assert!(
        !dirs.1.path().join("state").exists(),
        "the old state is gone"
    );
    let engine = Engine::open(&data_dir.state(), 1 << 20).unwrap();
    let horizon = Mvcc::load(&engine).unwrap().horizon;
    assert_eq!(hash::hash_kv(&engine, horizon, 0).unwrap(), hash);
    from.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_foreign_snapshot_is_named_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample(dir.path()).await;
    let bytes = bytes_of(&store).await;
    assert_eq!(bytes.len() % 512, 32, "etcd's client looks for this");
    let folder = dir.path().join("receive");
    let check = |damage: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = bytes.clone();
        damage(&mut damaged);
        let error = receive(&folder, 1, &damaged).unwrap_err().to_string();
        let left: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
        error
            .split_once("is damaged: ")
            .map_or(error.clone(), |(_, what)| what.to_owned())
    };
    assert_eq!(
        check(&|b| b[0] ^= 1),
        "offset 0: this is not a snapshot of this store"
    );
    assert_eq!(check(&|b| b[40] ^= 1), "offset 8: bad checksum");
    assert!(
        check(&|b| {
            let at = b.len() / 2;
            b[at] ^= 1
        })
        .ends_with(": bad checksum")
    );
    let end = bytes.len() - 32;
    assert_eq!(
        check(&|b| b[end] ^= 1),
        format!("offset {end}: the SHA-256 of the file is another")
    );
    assert_eq!(
        check(&|b| b.push(0)),
        format!("offset {}: bytes after the end", bytes.len())
    );
    for cut in [0, 5, 8, 30, bytes.len() / 3, end - 1, end, bytes.len() - 1] {
        let error = check(&|b| b.truncate(cut));
        assert!(error.contains("end"), "cut at {cut}: {error}");
    }
    let mut receiver = Receiver::begin(&folder, 2).unwrap();
    receiver.write(0, &bytes).unwrap();
    let foreign = receiver.finish(CLUSTER + 1).unwrap_err().to_string();
    assert!(foreign.ends_with("is of cluster 7, not 8"), "{foreign}");
    assert_eq!(store.revision(), 302);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_goes_on_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample(dir.path()).await;
    let raft = store.raft();
    let first = raft.get_snapshot().await.unwrap().unwrap().snapshot;
    put(&store, "later", b"x").await;
    let again = raft.get_snapshot().await.unwrap().unwrap().snapshot;
    let (first, again) = (first.source().unwrap(), again.source().unwrap());
    assert_eq!(first.id, again.id, "kept until the next checkpoint");
    let read = async |source: &std::sync::Arc<crate::snapshot::Source>, offset| {
        let (mut blocks, mut bytes) = (source.stream(offset), Vec::new());
        while let Some(block) = blocks.recv().await {
            bytes.extend_from_slice(&block.unwrap());
        }
        bytes
    };
    let whole = read(first, 0).await;
    assert_eq!(whole.len() as u64, first.size().unwrap());
    for offset in [1, 100_000, whole.len() as u64 - 3] {
        assert_eq!(read(again, offset).await, whole[offset as usize..]);
    }
    store.shutdown().await;
}
