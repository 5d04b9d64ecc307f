//! Room that is used up: the quota, a disk that is nearly full, and one that is full at the start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use raft_store::*;

async fn put(store: &Store, key: &str, bytes: usize) -> Result<i64, Error> {
    let request = PutRequest {
        key: Bytes::from(key.to_owned()),
        // Does not compress.
        value: (0..bytes).map(|_| rand::random::<u8>()).collect(),
        ..Default::default()
    };
    store.put(request).await.map(|response| response.revision)
}

async fn count(store: &Store) -> i64 {
    let request = RangeRequest {
        range: KeyRange::all(),
        count_only: true,
        ..Default::default()
    };
    store.range(request).await.expect("reads go on").count
}

async fn delete_all(store: &Store) -> i64 {
    let request = DeleteRangeRequest {
        range: KeyRange::all(),
        prev_kv: false,
    };
    let deleted = store.delete_range(request).await;
    deleted.expect("deleting needs no space").revision
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_quota_writes_are_refused_until_disarmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    config.quota_backend_bytes = 8 * 1024 * 1024;
    let store = Store::open(config).await.unwrap();
    let member = store.status().member_id;
    let lease = LeaseGrantRequest { id: 3, ttl: 1000 };
    store.lease_grant(lease).await.unwrap();
    let mut written = 0;
    let refused = loop {
        match put(&store, &format!("k{written}"), 100_000).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 200, "the quota is not kept");
    };
    assert_eq!(
        refused.to_string(),
        "etcdserver: mvcc: database space exceeded"
    );
    // Each value counts once, as in etcd.
    assert!((60..90).contains(&written), "{written}");
    let alarm = Alarm {
        member_id: member,
        kind: AlarmKind::NoSpace,
    };
    assert_eq!(store.alarms().await.unwrap().alarms, [alarm]);
    assert_eq!(count(&store).await, written);
    let granted = store
        .lease_grant(LeaseGrantRequest { id: 4, ttl: 1000 })
        .await;
    assert_eq!(granted, Err(Error::NoSpace));
    store.lease_revoke(3).await.unwrap();
    let revision = delete_all(&store).await;
    store.compact(revision, true).await.unwrap();
    assert_eq!(
        put(&store, "k", 1).await,
        Err(Error::NoSpace),
        "the alarm is on"
    );
    let off = store
        .alarm_deactivate(member, AlarmKind::NoSpace)
        .await
        .unwrap();
    assert_eq!(off.alarms, [alarm]);
    let none = store
        .alarm_deactivate(member, AlarmKind::NoSpace)
        .await
        .unwrap();
    assert_eq!(none.alarms, []);
    put(&store, "k", 100_000)
        .await
        .expect("there is room again");
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_gives_room_back_though_nobody_writes() {
    const VALUE_BYTES: usize = 4_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    let mut revision = 0;
    for number in 0..5_000 {
        let key = format!("k{}", number % 10);
        revision = put(&store, &key, VALUE_BYTES).await.unwrap();
    }
    assert!(store.status().db_size > 4_900 * VALUE_BYTES as u64);
    store.compact(revision, true).await.unwrap();
    let small = async {
        // The ten values, in their history and as the newest, and the database's own.
        while store.status().db_size > 100 * VALUE_BYTES as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let given_back = tokio::time::timeout(Duration::from_secs(30), small).await;
    assert!(given_back.is_ok(), "{:?}", store.status());
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_cluster_answers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    put(&store, "k", 1).await.unwrap();
    let on = store.alarm_activate(77, AlarmKind::Corrupt).await.unwrap();
    assert_eq!(on.alarms.len(), 1);
    store.shutdown().await;
    drop(store);
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    let request = RangeRequest {
        range: KeyRange::all(),
        ..Default::default()
    };
    assert_eq!(store.range(request).await, Err(Error::Corrupt));
    assert_eq!(put(&store, "k", 1).await, Err(Error::Corrupt));
    assert_eq!(Error::Corrupt.to_string(), "etcdserver: corrupt cluster");
    store
        .alarm_deactivate(77, AlarmKind::Corrupt)
        .await
        .unwrap();
    assert_eq!(count(&store).await, 1);
    store.shutdown().await;
}

/// A small file system of its own; `None` where that is not allowed.
struct SmallDisk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("it succeeds");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(dir.path())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self {
            path: dir.path().to_owned(),
            _dir: dir,
        })
    }

    fn free(&self) -> u64 {
        let found = nix::sys::statvfs::statvfs(&self.path).expect("it succeeds");
        found.blocks_available() as u64 * found.fragment_size() as u64
    }

    /// Fills it until only `left` bytes are free.
    fn fill(&self, name: &str, left: u64) {
        use nix::fcntl::{FallocateFlags, fallocate};
        let file = File::create(self.path.join(name)).expect("it succeeds");
        let bytes = self.free().saturating_sub(left) as i64;
        fallocate(&file, FallocateFlags::empty(), 0, bytes).expect("it succeeds");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path.join(name)).expect("it succeeds");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Puts until it is answered as wanted.
async fn puts_until(store: &Store, refused: bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let answer = put(store, "probe", 10).await;
        match answer {
            Err(Error::NoSpace) if refused => return,
            Ok(_) if !refused => return,
            Ok(_) | Err(Error::NoSpace) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn alarms_until(store: &Store, expect: usize) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while store.alarms().await.expect("it succeeds").alarms.len() != expect {
        assert!(tokio::time::Instant::now() < deadline, "no {expect} alarms");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn open(path: &Path) -> Store {
    Store::open(Config::new(path))
        .await
        .expect("the store opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount(260) else {
        eprintln!("not allowed to mount a small disk: nothing was tested");
        return;
    };
    let data = disk.path.join("data");
    let store = open(&data).await;
    put(&store, "k", 1000).await.unwrap();
    disk.fill("filler", limits::DISK_RESERVE_BYTES / 2);
    puts_until(&store, true).await;
    alarms_until(&store, 1).await;
    assert_eq!(count(&store).await, 2);
    store.compact(2, true).await.unwrap();
    disk.remove("filler");
    puts_until(&store, false).await;
    alarms_until(&store, 0).await;

    // Full to the last byte, and started so: the ballast makes room for that.
    disk.fill("filler", limits::DISK_RESERVE_BYTES / 2);
    puts_until(&store, true).await;
    let revision = store.revision();
    store.shutdown().await;
    drop(store);
    disk.fill("filler2", 0);
    assert!(disk.free() < 1_000_000, "{}", disk.free());
    let store = open(&data).await;
    assert_eq!(store.revision(), revision);
    assert_eq!(count(&store).await, 2);
    assert_eq!(put(&store, "k", 10).await, Err(Error::NoSpace));
    disk.remove("filler");
    disk.remove("filler2");
    puts_until(&store, false).await;
    alarms_until(&store, 0).await;
    assert!(data.join("ballast").exists(), "ready for the next time");
    store.shutdown().await;
}
