//! A member whose data differs from the others' is found and named; after that nothing is served.

#![allow(clippy::unwrap_used)]

#[path = "cluster/harness.rs"]
#[allow(dead_code)]
mod harness;

use std::path::Path;

use harness::{Cluster, put, within};
use raft_store::{AlarmKind, Error};

/// Changes a value in the state that lies in `path`, as a disk that errs might, with good checksums.
fn damage(path: &Path, from: &[u8], to: &[u8]) {
    let mut options = rocksdb::Options::default();
    options.set_atomic_flush(true);
    let families = rocksdb::DB::list_cf(&options, path).expect("a database");
    let db = rocksdb::DB::open_cf(&options, path, &families).expect("it opens");
    let mut changed = 0;
    for name in &families {
        let family = db.cf_handle(name).expect("it was opened");
        let rows = db.iterator_cf(family, rocksdb::IteratorMode::Start);
        let rows: Vec<_> = rows.map(|row| row.expect("it is read")).collect();
        for (key, value) in rows {
            if let Some(at) = value.windows(from.len()).position(|part| part == from) {
                let mut value = value.to_vec();
                value[at..at + to.len()].copy_from_slice(to);
                db.put_cf(family, key, value).expect("it is written");
                changed += 1;
            }
        }
        db.flush_cf(family).expect("it is written");
    }
    assert!(changed > 0, "the value was not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_differs_is_named_and_nothing_is_served() {
    let mut cluster = Cluster::found(3).await;
    put(cluster.member(0), "a", "rightful").await;
    put(cluster.member(0), "b", "other").await;
    cluster.check_equal().await;
    let leader = cluster.leader(None).await;
    let same = within(cluster.member(leader).compare_members()).await;
    assert_eq!(same, Ok(None));

    let victim = (leader + 1) % 3;
    cluster.shutdown(victim).await;
    let state = cluster.configs[victim].data_dir.join("state");
    damage(&state, b"rightful", b"wrongful");
    cluster.start(victim).await;
    let member = cluster.member(victim).clone();
    within(member.ready()).await.expect("it is ready");
    within(member.read_index()).await.expect("it follows");
    let refused = within(member.check_against_others()).await;
    assert_eq!(refused, Err(Error::Corrupt), "before it serves");

    let leader = cluster.leader(Some(victim)).await;
    let store = cluster.member(leader);
    let found = within(store.compare_members()).await;
    let id = member.status().member_id;
    assert_eq!(found, Ok(Some(id)));
    let alarms = store.known_alarms();
    assert!(
        alarms
            .iter()
            .any(|alarm| (alarm.member_id, alarm.kind) == (id, AlarmKind::Corrupt)),
        "{alarms:?}"
    );
    let refused = within(harness::try_put(store, "a", "more")).await;
    assert_eq!(refused, Err(Error::Corrupt));
    let request = raft_store::RangeRequest {
        range: raft_store::KeyRange::all(),
        ..Default::default()
    };
    assert_eq!(within(store.range(request)).await, Err(Error::Corrupt));
    cluster.close().await;
}
