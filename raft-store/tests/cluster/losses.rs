//! Members that are lost in numbers, replaced, or so far behind that they take over the whole state.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use raft_store::*;

use super::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_members_outlive_three() {
    let mut cluster = Cluster::found(7).await;
    for at in 0..7 {
        put(cluster.member(at), "before", &at.to_string()).await;
    }
    let leader = cluster.leader(None).await;
    let killed = [leader, (leader + 2) % 7, (leader + 3) % 7];
    for at in killed {
        cluster.abort(at).await;
    }
    for at in cluster.running() {
        put(cluster.member(at), &format!("k{at}"), "without three").await;
    }
    cluster.check_equal().await;
    for at in killed {
        cluster.start(at).await;
    }
    for at in 0..7 {
        assert_eq!(get(cluster.member(at), "before").await.unwrap().0, "6");
        put(cluster.member(at), "after", "all are back").await;
    }
    cluster.check_equal().await;
    cluster.close().await;
}

/// Its disk is lost: another one takes its place, and counts for the majority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_member_is_replaced_by_a_new_one() {
    let mut cluster = Cluster::found(3).await;
    put(cluster.member(0), "old", "x").await;
    let lost = cluster.leader(None).await;
    let id = cluster.member(lost).status().member_id;
    cluster.abort(lost).await;
    let left = cluster.running();
    let asked = left[0];
    within(cluster.member(asked).member_remove(id))
        .await
        .unwrap();
    let url = free_url();
    let added = cluster.member(asked).member_add(vec![url.clone()], false);
    let (added, _) = within(added).await.unwrap();
    let known = left.iter().map(|at| (format!("m{at}"), cluster.url(*at)));
    let members = known.collect();
    let at = cluster.add_config("new", &url, Bootstrap::Existing { members });
    cluster.start(at).await;
    let voted_for = async {
        while !cluster.member(asked).has_vote(added.id) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(voted_for).await;
    assert_eq!(cluster.member(at).status().member_id, added.id);
    // A further change is let through once the one that made it a voter has ended: until then the old majority counts too.
    let settled = cluster.member(asked).member_update(added.id, vec![url]);
    within(settled).await.unwrap();
    assert_eq!(get(cluster.member(at), "old").await.unwrap().0, "x");
    // Without it, these would be one of three.
    cluster.abort(left[1]).await;
    put(cluster.member(asked), "new", "y").await;
    cluster.check_equal().await;
    cluster.close().await;
}

const WRITES: usize = 120;
const VALUE_BYTES: usize = 64 * 1024;

/// The link breaks in the middle of the state: what has arrived is not sent again, and a watch through the member that
/// takes it over is told every event once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_transfer_of_the_state_goes_on_where_it_broke() {
    let shorten = |config: &mut Config| config.log_segment_bytes = 128 * 1024;
    let cluster = Cluster::found_with(3, shorten).await;
    let leader = cluster.leader(None).await;
    let away = (leader + 1) % 3;
    let url = cluster.url(away);
    let mut watcher = cluster
        .member(away)
        .watch(WatchRequest {
            range: KeyRange::prefix("k"),
            ..Default::default()
        })
        .unwrap();
    cluster.switch.cut(&url);
    for n in 0..WRITES {
        let value = format!("{n:08}").repeat(VALUE_BYTES / 8);
        put(cluster.member(leader), &format!("k{}", n % 10), &value).await;
    }
    let newest = cluster.member(leader).revision();
    let whole = (WRITES * VALUE_BYTES) as u64;

    cluster.switch.cut_after(&url, whole / 2);
    cluster.switch.mend(&url);
    cluster.switch.until_cut(&url).await;
    let before = cluster.switch.sent(&url);
    cluster.switch.mend(&url);
    let mut applied = cluster.member(away).applied();
    within(applied.wait_for(|applied| *applied >= newest))
        .await
        .unwrap();
    let rest = cluster.switch.sent(&url) - before;
    // What was under way when it broke is sent again: some blocks.
    assert!(
        (whole / 4..whole * 3 / 4).contains(&rest),
        "{rest} of {whole} bytes were sent after the break"
    );

    let mut told = BTreeSet::new();
    while told.len() < WRITES {
        for event in within(watcher.next()).await.unwrap().events {
            let revision = event.kv.mod_revision;
            assert!(told.insert(revision), "{revision} was told twice");
            assert_eq!(told.last(), Some(&revision), "in order");
        }
    }
    put(cluster.member(away), "k", "last").await;
    let last = within(watcher.next()).await.unwrap().events;
    assert_eq!(last[0].kv.value, Bytes::from_static(b"last"));
    cluster.check_equal().await;
    cluster.close().await;
}
