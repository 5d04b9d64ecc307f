//! Backups: a stream saved to a file, restored as a new cluster; a survivor's data made a cluster of one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use raft_store::*;
use sha2::{Digest, Sha256};

async fn open(dir: &Path) -> Store {
    let opened = Store::open(Config::new(dir)).await;
    opened.expect("the store opens")
}

async fn put(store: &Store, key: &str, value: &str, lease: i64) -> i64 {
    let request = PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        lease,
        ..Default::default()
    };
    store.put(request).await.expect("the put succeeds").revision
}

fn at(revision: i64) -> RangeRequest {
    RangeRequest {
        range: KeyRange::all(),
        revision,
        ..Default::default()
    }
}

/// 40 revisions on 5 keys, one of them with a lease, compacted at 10.
async fn sample(dir: &Path) -> Store {
    let store = open(dir).await;
    let lease = LeaseGrantRequest { id: 7, ttl: 5000 };
    store.lease_grant(lease).await.expect("it succeeds");
    for n in 2..=40 {
        put(
            &store,
            &format!("k{}", n % 5),
            &n.to_string(),
            if n == 40 { 7 } else { 0 },
        )
        .await;
    }
    store.compact(10, true).await.expect("it succeeds");
    store
}

async fn save(store: &Store, file: &Path) -> Vec<u8> {
    let mut stream = store.snapshot().await.expect("it succeeds");
    let mut bytes = Vec::new();
    // Writes go on and are not in it.
    put(store, "later", "x", 0).await;
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.expect("it succeeds"));
    }
    assert_eq!((stream.revision, stream.size), (40, bytes.len() as u64));
    let (content, digest) = bytes.split_at(bytes.len() - 32);
    assert_eq!(Sha256::digest(content)[..], *digest);
    fs::write(file, &bytes).expect("it succeeds");
    bytes
}

fn options(data_dir: PathBuf) -> RestoreOptions {
    let urls = vec!["http://127.0.0.1:2380".to_owned()];
    RestoreOptions {
        data_dir,
        name: "m1".to_owned(),
        initial_cluster: BTreeMap::from([("m1".to_owned(), urls.clone())]),
        initial_cluster_token: "etcd-cluster".to_owned(),
        initial_advertise_peer_urls: urls,
        skip_hash_check: false,
        bump_revision: 0,
        mark_compacted: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_snapshot_becomes_a_new_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample(&dir.path().join("old")).await;
    let file = dir.path().join("backup");
    let bytes = save(&store, &file).await;
    let status = snapshot_status(&file).unwrap();
    let old = store.status();
    assert_eq!(
        (status.revision, status.total_size),
        (40, bytes.len() as u64)
    );
    assert_eq!(status.cluster_id, old.cluster_id);
    let kvs = store.range(at(40)).await.unwrap().kvs;

    restore(&file, &options(dir.path().join("new"))).unwrap();
    let new = open(&dir.path().join("new")).await;
    let found = new.status();
    assert_ne!(found.cluster_id, old.cluster_id);
    assert_ne!(found.member_id, old.member_id);
    assert_eq!((found.revision, found.members.len()), (40, 1));
    assert_eq!(found.members[0].id, found.member_id);
    assert_eq!(new.range(at(0)).await.unwrap().kvs, kvs);
    assert_eq!(
        new.hash_kv(40).await.unwrap().hash,
        store.hash_kv(40).await.unwrap().hash
    );
    assert_eq!(new.lease_time_to_live(7, true).await.unwrap().keys, ["k0"]);
    let history = new.range(at(20)).await.unwrap().kvs;
    assert_eq!(history, store.range(at(20)).await.unwrap().kvs);
    assert_eq!(put(&new, "k1", "goes on", 0).await, 41);
    new.shutdown().await;
    drop(new);
    let again = open(&dir.path().join("new")).await;
    assert_eq!(again.revision(), 41);
    again.shutdown().await;
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bumped_and_compacted_restore_is_newer_than_any_client() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample(&dir.path().join("old")).await;
    let file = dir.path().join("backup");
    save(&store, &file).await;
    let mut bumped = options(dir.path().join("new"));
    bumped.bump_revision = 1_000_000;
    bumped.mark_compacted = true;
    restore(&file, &bumped).unwrap();
    let new = open(&bumped.data_dir).await;
    assert_eq!(
        (new.revision(), new.compacted_revision()),
        (1_000_040, 1_000_040)
    );
    assert_eq!(
        new.range(at(0)).await.unwrap().kvs,
        store.range(at(40)).await.unwrap().kvs
    );
    assert!(matches!(
        new.range(at(40)).await,
        Err(Error::Compacted { .. })
    ));
    let old_watch = WatchRequest {
        range: KeyRange::all(),
        start_revision: 41,
        ..Default::default()
    };
    assert!(matches!(new.watch(old_watch), Err(Error::Compacted { .. })));
    assert_eq!(put(&new, "k1", "new", 0).await, 1_000_041);
    new.shutdown().await;
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_says_why_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample(&dir.path().join("old")).await;
    let file = dir.path().join("backup");
    let bytes = save(&store, &file).await;
    store.shutdown().await;
    let to = dir.path().join("new");
    let check = |change: &dyn Fn(&mut RestoreOptions), expect: &str| {
        let mut options = options(to.clone());
        change(&mut options);
        let error = restore(&file, &options).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        assert!(!to.exists() && !dir.path().join("new.restoring").exists());
    };
    check(
        &|o| o.name = "m2".to_owned(),
        "couldn't find local name \"m2\" in the initial cluster",
    );
    check(
        &|o| o.initial_advertise_peer_urls[0].push('1'),
        "has m1=http://127.0.0.1:2380 but missing",
    );
    check(&|o| o.data_dir = dir.path().join("old"), "not empty");
    let flip = |offset: usize| {
        let mut damaged = bytes.clone();
        damaged[offset] ^= 1;
        fs::write(&file, damaged).unwrap();
    };
    flip(bytes.len() - 1);
    check(
        &|_| {},
        &format!(
            "backup is damaged: offset {}: the SHA-256",
            bytes.len() - 32
        ),
    );
    let mut skipping = options(dir.path().join("skipped"));
    skipping.skip_hash_check = true;
    restore(&file, &skipping).unwrap();
    flip(bytes.len() / 2);
    check(&|o| o.skip_hash_check = true, "bad checksum");
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    check(&|o| o.skip_hash_check = true, "end");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_restore_the_same_file_agree_on_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample(&dir.path().join("old")).await;
    let file = dir.path().join("backup");
    save(&store, &file).await;
    store.shutdown().await;
    let urls = |n: u16| vec![format!("http://127.0.0.{n}:2380")];
    let identity = |name: &str, n: u16, token: &str| -> serde_json::Value {
        let mut options = options(dir.path().join(format!("{name}-{token}")));
        options.name = name.to_owned();
        options.initial_cluster_token = token.to_owned();
        options.initial_cluster = [("a".to_owned(), urls(1)), ("b".to_owned(), urls(2))].into();
        options.initial_advertise_peer_urls = urls(n);
        restore(&file, &options).unwrap();
        serde_json::from_slice(&fs::read(options.data_dir.join("store.json")).unwrap()).unwrap()
    };
    let (a, b, c) = (
        identity("a", 1, "x"),
        identity("b", 2, "x"),
        identity("b", 2, "y"),
    );
    assert_eq!(a["cluster_id"], b["cluster_id"]);
    assert_ne!(a["member_id"], b["member_id"]);
    assert_ne!(b["cluster_id"], c["cluster_id"]);
    assert_ne!(b["member_id"], c["member_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_becomes_a_cluster_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("survivor");
    let store = sample(&path).await;
    let peer = vec!["http://127.0.0.1:1".to_owned()];
    store.member_add(peer, true).await.unwrap();
    put(&store, "last", "acknowledged", 0).await;
    let old = store.status();
    assert_eq!(old.members.len(), 2);
    let hash = store.hash_kv(0).await.unwrap();
    store.shutdown().await;
    drop(store);

    assert!(force_new_cluster(&path).unwrap());
    let store = open(&path).await;
    let new = store.status();
    assert_eq!(new.members.len(), 1);
    assert_eq!(new.members[0].id, new.member_id);
    assert_ne!(
        (new.cluster_id, new.member_id),
        (old.cluster_id, old.member_id)
    );
    assert_eq!(store.hash_kv(0).await.unwrap(), hash);
    assert_eq!(put(&store, "last", "again", 0).await, 42);
    store.shutdown().await;
    drop(store);
    assert!(!force_new_cluster(&path).unwrap(), "it is alone already");
    assert!(force_new_cluster(&dir.path().join("nothing")).is_err());
    let store = open(&path).await;
    assert_eq!(store.status().member_id, new.member_id);
    assert_eq!(store.revision(), 42);
    store.shutdown().await;
}
