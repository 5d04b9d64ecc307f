//! Sealing through a store in memory: what lies there, who can read it, and changes of keys at every point.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use expect_test::expect;

use super::key_ring::KeyRing;
use super::{EncryptionError, RING_KEY, SealedStore};
use crate::memory::MemoryStore;
use crate::store::{Compare, KeyRange, Op, Store, StoreError, Txn};

const SECRET: &str = "/registry/secrets/ns/a";

struct Master {
    memory: MemoryStore,
    sealed: SealedStore,
    directory: tempfile::TempDir,
}

async fn master() -> Master {
    let directory = tempfile::tempdir().expect("directory");
    let memory = MemoryStore::default();
    let sealed = open(&memory, directory.path()).await.expect("opens");
    Master {
        memory,
        sealed,
        directory,
    }
}

async fn open(memory: &MemoryStore, directory: &Path) -> Result<SealedStore, EncryptionError> {
    SealedStore::open(Arc::new(memory.clone()), &directory.join("encryption.key")).await
}

async fn put(store: &dyn Store, key: &str, value: &str) {
    let txn = Txn {
        then: vec![Op::Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: 0,
        }],
        ..Txn::default()
    };
    store.txn(txn).await.expect("put");
}

async fn get(store: &dyn Store, key: &str) -> String {
    let entry = store.get(key.as_bytes()).await.expect("get").0;
    String::from_utf8_lossy(&entry.expect("there").value).into_owned()
}

async fn status(store: &SealedStore) -> String {
    serde_json::to_string(&store.status().await.expect("status")).expect("JSON")
}

#[tokio::test]
async fn secrets_are_sealed_and_others_are_not() {
    let master = master().await;
    let mut watch = master
        .sealed
        .watch(KeyRange::prefix(b"/registry/"), 2)
        .await
        .expect("watch");
    put(&master.sealed, SECRET, "{\"x\":1}").await;
    put(&master.sealed, "/registry/configmaps/ns/a", "{}").await;
    let stored = get(&master.memory, SECRET).await;
    assert!(stored.starts_with("k8s:enc:aesgcm:v1:key1:"), "{stored}");
    assert_eq!(get(&master.sealed, SECRET).await, "{\"x\":1}");
    assert_eq!(get(&master.memory, "/registry/configmaps/ns/a").await, "{}");
    let event = watch.next().await.expect("batch").events.remove(0);
    assert_eq!(event.current.expect("put").value, "{\"x\":1}");
    let range = KeyRange::prefix(b"/registry/secrets/");
    let list = master.sealed.range(range, 0, 0).await.expect("range");
    assert_eq!(list.entries[0].value, "{\"x\":1}");
    let ring = get(&master.memory, RING_KEY).await;
    assert!(ring.starts_with("k8s:enc:aesgcm:v1:root1:"), "{ring}");
    let file = master.directory.path().join("encryption.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(file).expect("file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn plain_values_are_read_and_moved_ones_are_not() {
    let master = master().await;
    put(&master.memory, SECRET, "{\"old\":1}").await;
    assert_eq!(get(&master.sealed, SECRET).await, "{\"old\":1}");
    put(&master.sealed, SECRET, "{}").await;
    let sealed = master.memory.get(SECRET.as_bytes()).await.expect("get").0;
    let txn = Txn {
        then: vec![Op::Put {
            key: "/registry/secrets/mine/a".into(),
            value: sealed.expect("there").value,
            lease: 0,
        }],
        ..Txn::default()
    };
    master.memory.txn(txn).await.expect("moved");
    let moved = get(&master.sealed, "/registry/secrets/mine/a").await;
    assert!(moved.starts_with("k8s:enc:"), "it stays closed: {moved}");
}

#[tokio::test]
async fn a_rotation_leaves_nothing_under_the_old_key() {
    let master = master().await;
    for n in 0..20 {
        put(
            &master.sealed,
            &format!("/registry/secrets/ns/{n}"),
            &format!("{{\"n\":{n}}}"),
        )
        .await;
    }
    put(&master.memory, SECRET, "{\"plain\":1}").await;
    expect![[r#"{"keys":[{"name":"key1","state":"Active"}],"values":{"identity":1,"key1":20}}"#]]
        .assert_eq(&status(&master.sealed).await);
    let before = *master.memory.applied().borrow();
    master.sealed.rotate().await.expect("rotates");
    expect![[r#"{"keys":[{"name":"key2","state":"Active"},{"name":"key1","state":"History"}],"values":{"key2":21}}"#]]
        .assert_eq(&status(&master.sealed).await);
    assert_eq!(
        get(&master.sealed, "/registry/secrets/ns/7").await,
        "{\"n\":7}"
    );
    // A server that starts now reads a little of the past first.
    let again = open(&master.memory, master.directory.path())
        .await
        .expect("opens");
    let range = KeyRange::prefix(b"/registry/secrets/");
    let past = again.range(range, 0, before).await.expect("the past");
    assert!(past.entries.iter().all(|e| e.value.starts_with(b"{")));
    // The key goes with the history that needs it, and no sooner.
    master.sealed.compact(before).await.expect("compacts");
    assert!(status(&master.sealed).await.contains("key1"));
    let now = *master.memory.applied().borrow();
    master.sealed.compact(now).await.expect("compacts");
    expect![[r#"{"keys":[{"name":"key2","state":"Active"}],"values":{"key2":21}}"#]]
        .assert_eq(&status(&master.sealed).await);
}

#[tokio::test]
async fn an_interrupted_rotation_is_ended_by_the_next() {
    let master = master().await;
    put(&master.sealed, SECRET, "{\"a\":1}").await;
    let ring = master.sealed.refresh().await.expect("ring");
    let replaced = master.sealed.replace_ring(ring.with_new_key()).await;
    assert!(replaced.expect("replaced"));
    put(&master.sealed, "/registry/secrets/ns/b", "{\"b\":1}").await;
    expect![[r#"{"keys":[{"name":"key2","state":"Active"},{"name":"key1","state":"Opening"}],"values":{"key1":1,"key2":1}}"#]]
        .assert_eq(&status(&master.sealed).await);
    master.sealed.rotate().await.expect("goes on");
    expect![[r#"{"keys":[{"name":"key2","state":"Active"},{"name":"key1","state":"History"}],"values":{"key2":2}}"#]]
        .assert_eq(&status(&master.sealed).await);
}

#[tokio::test]
async fn a_master_that_is_behind_writes_under_the_new_key() {
    let master = master().await;
    let other = open(&master.memory, master.directory.path())
        .await
        .expect("another master");
    put(&master.sealed, SECRET, "{\"v\":1}").await;
    master.sealed.rotate().await.expect("rotates");
    assert_eq!(get(&other, SECRET).await, "{\"v\":1}");
    let third = open(&master.memory, master.directory.path())
        .await
        .expect("another master");
    master.sealed.rotate().await.expect("rotates again");
    put(&third, SECRET, "{\"v\":2}").await;
    assert!(
        get(&master.memory, SECRET)
            .await
            .starts_with("k8s:enc:aesgcm:v1:key3:")
    );
    // The condition of the write itself still decides.
    let stale = Txn {
        compares: vec![Compare::ModRevision {
            key: SECRET.into(),
            revision: 1,
        }],
        then: vec![Op::Put {
            key: SECRET.into(),
            value: "{}".into(),
            lease: 0,
        }],
        otherwise: vec![Op::Get { key: SECRET.into() }],
        fence: None,
    };
    let result = other.txn(stale).await.expect("txn");
    assert!(!result.succeeded);
    assert_eq!(result.gets.len(), 1);
    assert_eq!(
        result.gets[0].as_ref().expect("there").value,
        "{\"v\":2}",
        "opened"
    );
}

#[tokio::test]
async fn without_its_root_key_a_store_is_refused() {
    let master = master().await;
    let elsewhere = tempfile::tempdir().expect("directory");
    let missing = open(&master.memory, elsewhere.path()).await.err();
    assert!(matches!(missing, Some(EncryptionError::RootMissing { .. })));
    let other = MemoryStore::default();
    open(&other, elsewhere.path())
        .await
        .expect("another cluster");
    let wrong = open(&master.memory, elsewhere.path())
        .await
        .err()
        .expect("refused");
    assert!(
        wrong.to_string().contains("under another root key"),
        "{wrong}"
    );
}

#[tokio::test]
async fn the_root_key_is_changed_by_its_file() {
    let master = master().await;
    put(&master.sealed, SECRET, "{\"a\":1}").await;
    let path = master.directory.path().join("encryption.key");
    let old = std::fs::read_to_string(&path).expect("file");
    let new = "root2:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    std::fs::write(&path, format!("{new}{old}")).expect("write");
    master.sealed.rotate().await.expect("rotates");
    std::fs::write(&path, new).expect("write");
    let again = open(&master.memory, master.directory.path())
        .await
        .expect("opens");
    assert_eq!(get(&again, SECRET).await, "{\"a\":1}");
}

#[tokio::test]
async fn an_unknown_key_is_an_error_and_not_an_absence() {
    let master = master().await;
    let foreign = KeyRing::first().with_new_key();
    let value = foreign.sealing().seal(SECRET.as_bytes(), b"{}");
    let txn = Txn {
        then: vec![Op::Put {
            key: SECRET.into(),
            value,
            lease: 0,
        }],
        ..Txn::default()
    };
    master.memory.txn(txn).await.expect("put");
    let error = master
        .sealed
        .get(SECRET.as_bytes())
        .await
        .expect_err("unknown");
    assert!(
        matches!(&error, StoreError::Internal(why) if why.contains("key2")),
        "{error}"
    );
}
