//! A leader whose disk is nearly full.

use raft_store::Error;

use super::harness::*;

/// More than any disk has.
const RESERVE_BYTES: u64 = u64::MAX / 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_hands_over_to_a_member_that_lives() {
    let mut cluster = Cluster::found(3).await;
    let id = |cluster: &Cluster, at: usize| cluster.member(at).status().member_id;
    let mut members = [0, 1, 2];
    members.sort_by_key(|at| id(&cluster, *at));
    // The first of the voters is the one that is down.
    let [dead, full, lives] = members;
    let full_id = id(&cluster, full);
    cluster.shutdown(full).await;
    cluster.configs[full].disk_reserve_bytes = RESERVE_BYTES;
    cluster.start(full).await;
    within(cluster.member(full).ready()).await.unwrap();
    cluster.abort(dead).await;
    // Led by the one or the other; it may be that the full one has led and handed over already.
    let asked = async {
        let moved = cluster.member(lives).move_leader(full_id).await;
        assert!(
            matches!(
                moved,
                Ok(()) | Err(Error::NotLeader { .. } | Error::NoLeader | Error::Timeout)
            ),
            "{moved:?}"
        );
    };
    within(asked).await;
    let mut leadership = cluster.member(lives).leadership();
    within(leadership.wait_for(|now| now.is_leader))
        .await
        .unwrap();
    cluster.close().await;
}
