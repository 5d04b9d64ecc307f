//! A whole cluster lost and restored, a survivor that goes on alone, a leader without room: over real connections.

#![allow(clippy::unwrap_used)]

#[path = "cluster/harness.rs"]
#[allow(dead_code)]
mod harness;

use std::collections::BTreeMap;
use std::path::Path;

use futures::StreamExt;
use harness::*;
use raft_store::*;

async fn save(store: &Store, file: &Path) {
    let mut stream = store.snapshot().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_restore_one_file_and_form_a_cluster() {
    let mut cluster = Cluster::found(3).await;
    for n in 0..20 {
        put(
            cluster.member(n % 3),
            &format!("k{}", n % 4),
            &n.to_string(),
        )
        .await;
    }
    let file = cluster.dir("backup");
    save(cluster.member(1), &file).await;
    let revision = snapshot_status(&file).unwrap().revision;
    let old = cluster.member(0).status();
    for at in 0..3 {
        cluster.abort(at).await;
    }
    let members: BTreeMap<_, _> = cluster
        .configs
        .iter()
        .map(|config| (config.name.clone(), config.peer_urls.clone()))
        .collect();
    for at in 0..3 {
        let name = cluster.configs[at].name.clone();
        let options = RestoreOptions {
            data_dir: cluster.dir(&format!("{name}-restored")),
            initial_advertise_peer_urls: members[&name].clone(),
            name,
            initial_cluster: members.clone(),
            initial_cluster_token: "after".to_owned(),
            skip_hash_check: false,
            bump_revision: 0,
            mark_compacted: false,
        };
        restore(&file, &options).unwrap();
        cluster.configs[at].data_dir = options.data_dir;
        cluster.start(at).await;
    }
    for at in 0..3 {
        within(cluster.member(at).ready()).await.unwrap();
    }
    let new = cluster.member(0).status();
    assert_ne!(new.cluster_id, old.cluster_id);
    assert_eq!(new.members.len(), 3);
    assert!(
        new.members
            .iter()
            .all(|new| old.members.iter().all(|old| old.id != new.id))
    );
    assert_eq!(put(cluster.member(2), "after", "x").await, revision + 1);
    assert_eq!(get(cluster.member(1), "k3").await.unwrap().0, "19");
    cluster.check_equal().await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_goes_on_alone_and_the_old_members_do_not_come_back() {
    let mut cluster = Cluster::found(3).await;
    let mut last = 0;
    for n in 0..20 {
        last = put(cluster.member(n % 3), "k", &n.to_string()).await;
    }
    // All have the last write in their logs.
    cluster.check_equal().await;
    for at in 0..3 {
        cluster.abort(at).await;
    }
    // The member that was stopped at once may still be closing its database.
    let survivor = cluster.configs[2].data_dir.clone();
    let forced = async {
        loop {
            match force_new_cluster(&survivor) {
                Ok(forced) => return forced,
                Err(error) if error.to_string().contains("lock hold") => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    assert!(within(forced).await);
    cluster.start(2).await;
    within(cluster.member(2).ready()).await.unwrap();
    assert_eq!(get(cluster.member(2), "k").await.unwrap().0, "19");
    assert_eq!(put(cluster.member(2), "alone", "1").await, last + 1);

    // A majority of the old cluster finds each other, and leaves the new one alone.
    cluster.start(0).await;
    cluster.start(1).await;
    let old = cluster.leader(Some(2)).await;
    put(cluster.member(old), "old", "1").await;
    assert_eq!(put(cluster.member(2), "alone", "2").await, last + 2);
    assert_eq!(get(cluster.member(2), "old").await, None);
    assert_eq!(get(cluster.member(old), "alone").await, None);
    assert_eq!(cluster.member(2).status().members.len(), 1);
    assert_eq!(cluster.member(old).status().members.len(), 3);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_stops_writes_and_hands_over() {
    let mut cluster = Cluster::found(3).await;
    let full = cluster.leader(None).await;
    put(cluster.member(full), "k", "v").await;
    cluster.shutdown(full).await;
    let enough = cluster.configs[full].disk_reserve_bytes;
    cluster.configs[full].disk_reserve_bytes = u64::MAX / 8;
    cluster.start(full).await;
    let other = cluster.leader(Some(full)).await;
    let id = cluster.member(full).status().member_id;
    let alarms_are = async |cluster: &Cluster, count: usize| {
        let look = async {
            while cluster
                .member(other)
                .alarms()
                .await
                .map(|found| found.alarms.len())
                != Ok(count)
            {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        within(look).await;
    };
    alarms_are(&cluster, 1).await;
    assert_eq!(
        try_put(cluster.member(other), "k", "w").await,
        Err(Error::NoSpace)
    );
    assert_eq!(get(cluster.member(full), "k").await.unwrap().0, "v");
    // Whether it takes effect is for the member without room to undo.
    let _ = cluster.member(other).move_leader(id).await;
    cluster.leader(Some(full)).await;

    cluster.shutdown(full).await;
    cluster.configs[full].disk_reserve_bytes = enough;
    cluster.start(full).await;
    alarms_are(&cluster, 0).await;
    put(cluster.member(other), "k", "w").await;
    cluster.check_equal().await;
    cluster.close().await;
}
