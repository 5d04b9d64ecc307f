//! Changes of the members of three, each building on the one before; asked at the second, led by the first.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use tests::{Program, StoreCluster, eventually, eventually_async};
use tonic::Request;
use tonic::metadata::MetadataValue;
use xebec_proto::etcdserverpb as pb;

use super::{get, put, watch_of};
use crate::session::Session;
use crate::three::{MembersCase, healthy};
use crate::watching::Watching;

const LIMIT: Duration = Duration::from_secs(30);
/// Where nobody listens. What is added in one second under the same URL has the same id in etcd, once and for all.
const NOWHERE: &str = "http://127.0.0.1:1";
const NOWHERE_EITHER: &str = "http://127.0.0.1:3";
const ELSEWHERE: &str = "http://127.0.0.1:2";

macro_rules! members {
    ($($case:ident),* $(,)?) => {
        pub const CASES: &[MembersCase] = &[$(MembersCase {
            name: concat!("members::", stringify!($case)),
            run: |session, cluster| Box::pin($case(session, cluster)),
        }),*];
    };
}

members!(
    list,
    leaders,
    a_learner_that_never_starts,
    a_voter_that_never_starts,
    hashes_are_equal,
    a_leader_is_lost,
    a_learner_that_learns,
    the_member_that_is_asked_goes,
    the_leader_goes,
    an_updated_learner,
    an_update_to_nowhere,
);

async fn list(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    s.note(format!("a new store is at revision {}", s.base()));
    for at in 0..3 {
        s.turn_to(cluster.port(at)).await?;
        for linearizable in [false, true] {
            let request = pb::MemberListRequest { linearizable };
            let answer = s.cluster().member_list(request).await;
            s.record("list", answer)?;
        }
    }
    Ok(())
}

async fn id_of(s: &Session, name: &str) -> Result<u64> {
    let request = pb::MemberListRequest::default();
    let members = s.cluster().member_list(request).await?.into_inner().members;
    let found = members.iter().find(|member| member.name == name);
    Ok(found.with_context(|| format!("{name} is a member"))?.id)
}

async fn move_leader(s: &mut Session, what: &str, target_id: u64) -> Result<()> {
    let request = pb::MoveLeaderRequest { target_id };
    let answer = s.maintenance().move_leader(request).await;
    s.record(&format!("move the leader to {what}"), answer)
        .map(drop)
}

async fn leaders(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    let (first, third) = (id_of(s, "m0").await?, id_of(s, "m2").await?);
    move_leader(s, "another, asked at a follower", third).await?;
    s.turn_to(cluster.port(0)).await?;
    move_leader(s, "none", 0).await?;
    move_leader(s, "an unknown one", 12_345).await?;
    move_leader(s, "itself", first).await?;
    move_leader(s, "another", third).await?;
    let status = s.maintenance().status(pb::StatusRequest {}).await?;
    s.note(format!(
        "the third leads: {}",
        status.into_inner().leader == third
    ));
    move_leader(s, "itself, asked at who led before", first).await
}

/// etcd leaves a change unanswered that meets an earlier one under way. A member that was removed takes no more writes.
async fn settle(s: &Session) -> Result<()> {
    let _ = s.settle().await;
    Ok(())
}

async fn add(s: &mut Session, url: &str, is_learner: bool) -> Result<u64> {
    add_at(s, &[url], is_learner).await
}

async fn add_at(s: &mut Session, urls: &[&str], is_learner: bool) -> Result<u64> {
    let request = pb::MemberAddRequest {
        peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
        is_learner,
    };
    let answer = s.cluster().member_add(request).await;
    let added = s.record("add", answer)?.and_then(|answer| answer.member);
    settle(s).await?;
    Ok(added.map_or(0, |member| member.id))
}

async fn promote(s: &mut Session, id: u64) -> Result<()> {
    let answer = s
        .cluster()
        .member_promote(pb::MemberPromoteRequest { id })
        .await;
    s.record("promote", answer)?;
    settle(s).await
}

async fn remove(s: &mut Session, id: u64) -> Result<()> {
    let answer = s
        .cluster()
        .member_remove(pb::MemberRemoveRequest { id })
        .await;
    s.record("remove", answer)?;
    settle(s).await
}

async fn update(s: &mut Session, id: u64, urls: &[&str]) -> Result<()> {
    let request = pb::MemberUpdateRequest {
        id,
        peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
    };
    let answer = s.cluster().member_update(request).await;
    s.record("update", answer)?;
    settle(s).await
}

async fn members(s: &mut Session) -> Result<()> {
    let request = pb::MemberListRequest { linearizable: true };
    let answer = s.cluster().member_list(request).await;
    s.record("list", answer).map(drop)
}

async fn a_learner_that_never_starts(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    let id = add(s, NOWHERE, true).await?;
    members(s).await?;
    add_at(s, &[NOWHERE, ELSEWHERE], true).await?;
    add(s, ELSEWHERE, true).await?;
    promote(s, id).await?;
    s.turn_to(cluster.port(0)).await?;
    move_leader(s, "a learner", id).await?;
    promote(s, id).await?;
    // Elsewhere than at the leader, etcd does not answer this one.
    promote(s, 12_345).await?;
    s.turn_to(cluster.port(2)).await?;
    remove(s, id).await?;
    remove(s, id).await?;
    update(s, id, &[ELSEWHERE]).await?;
    members(s).await
}

async fn an_updated_learner(s: &mut Session, _: &mut StoreCluster) -> Result<()> {
    let id = add(s, NOWHERE, true).await?;
    update(s, id, &[ELSEWHERE]).await?;
    members(s).await?;
    remove(s, id).await
}

async fn a_voter_that_never_starts(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    let id = add(s, NOWHERE_EITHER, false).await?;
    members(s).await?;
    promote(s, id).await?;
    s.put(put("av", "1")).await?;
    update(s, id, &[ELSEWHERE]).await?;
    update(s, id, &[&cluster.members[0].peer.clone()]).await?;
    remove(s, id).await?;
    members(s).await?;
    remove(s, 12_345).await?;
    update(s, 12_345, &[ELSEWHERE]).await
}

async fn hashes_are_equal(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    for value in ["1", "2", "3"] {
        s.put(put("he", value)).await?;
    }
    s.compact(2, true).await?;
    let mut hashes = std::collections::BTreeSet::new();
    for at in 0..3 {
        s.turn_to(cluster.port(at)).await?;
        // It has caught up once it answers.
        s.range(get("he")).await?;
        let request = pb::HashKvRequest {
            revision: s.base() + 3,
        };
        let hash = s.maintenance().hash_kv(request).await?.into_inner();
        s.note(format!("compacted {}", hash.compact_revision - s.base()));
        hashes.insert(hash.hash);
    }
    s.note(format!("{} hashes", hashes.len()));
    Ok(())
}

/// Starts a further member that was added.
fn start(cluster: &mut StoreCluster, at: usize, with: &[usize]) -> Result<()> {
    let named = with.iter().chain([&at]).map(|at| {
        let member = &cluster.members[*at];
        format!("{}={}", member.name, member.peer)
    });
    let initial = named.collect::<Vec<_>>().join(",");
    let member = &mut cluster.members[at];
    member
        .flags
        .push("--initial-cluster-state=existing".to_owned());
    member.flags.push(format!("--initial-cluster={initial}"));
    cluster.start(at)
}

async fn a_learner_that_learns(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    s.put(put("al", "1")).await?;
    let at = cluster.add("m3", Vec::new())?;
    let id = add(s, &cluster.members[at].peer.clone(), true).await?;
    start(cluster, at, &[0, 1, 2])?;
    let own = cluster.port(at);
    eventually_async("it has caught up", LIMIT, async || {
        let there = Session::at(own).await?;
        let request = pb::RangeRequest {
            serializable: true,
            ..get("al")
        };
        let found = there.kv().range(request).await?.into_inner();
        ensure!(found.count == 1, "{found:?}");
        Ok(())
    })
    .await?;
    let asked = s.port;
    s.turn_to(own).await?;
    refusals(s).await?;
    s.turn_to(asked).await?;
    eventually_async("it is promoted", LIMIT, async || {
        let request = pb::MemberPromoteRequest { id };
        s.cluster().member_promote(request).await?;
        Ok(())
    })
    .await?;
    members(s).await?;
    promote(s, id).await?;
    s.turn_to(own).await?;
    serves(s).await?;
    s.range(get("al")).await?;
    s.put(put("al", "2")).await?;
    s.turn_to(asked).await?;
    healthy(s).await?;
    remove(s, id).await?;
    ends(s, cluster, at)
}

/// What a learner says to calls that are not for it.
async fn refusals(s: &mut Session) -> Result<()> {
    s.range(pb::RangeRequest {
        serializable: true,
        ..get("al")
    })
    .await?;
    let mut codes = Vec::new();
    let mut refused = |what: &str, status: tonic::Status| {
        codes.push(format!("{what}: {:?}", status.message()));
    };
    if let Err(status) = s.kv().range(get("al")).await {
        refused("range", status);
    }
    if let Err(status) = s.kv().put(put("al", "9")).await {
        refused("put", status);
    }
    let request = pb::LeaseGrantRequest { id: 0, ttl: 60 };
    if let Err(status) = s.lease().lease_grant(request).await {
        refused("grant", status);
    }
    let request = pb::MemberListRequest::default();
    if let Err(status) = s.cluster().member_list(request).await {
        refused("list", status);
    }
    s.note(codes.join(", "));
    let status = s
        .maintenance()
        .status(pb::StatusRequest {})
        .await?
        .into_inner();
    s.note(format!(
        "learner: {}, led: {}",
        status.is_learner,
        status.leader != 0
    ));
    Ok(())
}

/// A removed member's process ends by itself.
fn ends(s: &mut Session, cluster: &mut StoreCluster, at: usize) -> Result<()> {
    let mut process = cluster.members[at].process.take().context("it ran")?;
    eventually("the removed member ends", LIMIT, || {
        process.ended()?.context("it still runs")
    })?;
    s.note("the removed member has ended");
    Ok(())
}

async fn the_member_that_is_asked_goes(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    s.turn_to(cluster.port(2)).await?;
    let id = id_of(s, "m2").await?;
    let answer = s
        .cluster()
        .member_remove(pb::MemberRemoveRequest { id })
        .await;
    // Whether etcd answers before it stops is chance; this store always does.
    match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            let mut left: Vec<_> = answer.members.iter().map(|it| it.name.as_str()).collect();
            left.sort_unstable();
            ensure!(
                answer.header.is_some() && left == ["m0", "m1"],
                "{answer:?}"
            );
        }
        Err(status) => ensure!(
            !matches!(cluster.program, Program::Xebec)
                && status.message() == "etcdserver: server stopped",
            "{status:?}"
        ),
    }
    ends(s, cluster, 2)?;
    s.turn_to(cluster.port(1)).await?;
    members(s).await?;
    s.put(put("ag", "1")).await?;
    // Another one takes its place.
    healthy(s).await?;
    let at = cluster.add("m4", Vec::new())?;
    add(s, &cluster.members[at].peer.clone(), false).await?;
    start(cluster, at, &[0, 1])?;
    s.turn_to(cluster.port(at)).await?;
    members_named(s, 3).await?;
    serves(s).await?;
    s.range(get("ag")).await?;
    s.put(put("ag", "2")).await?;
    members(s).await
}

/// Waits until all members have told their names.
async fn members_named(s: &Session, count: usize) -> Result<()> {
    eventually_async("all have started", LIMIT, async || {
        let request = pb::MemberListRequest { linearizable: true };
        let members = s.cluster().member_list(request).await?.into_inner().members;
        let named = members
            .iter()
            .filter(|member| !member.client_ur_ls.is_empty());
        ensure!(named.count() == count, "{members:?}");
        Ok(())
    })
    .await
}

async fn the_leader_goes(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    let at = cluster.add("m5", Vec::new())?;
    add(s, &cluster.members[at].peer.clone(), false).await?;
    start(cluster, at, &[0, 1, 4])?;
    s.turn_to(cluster.port(at)).await?;
    members_named(s, 4).await?;
    serves(s).await?;
    healthy(s).await?;
    let id = id_of(s, "m0").await?;
    remove(s, id).await?;
    ends(s, cluster, 0)?;
    eventually_async("another leads", LIMIT, async || {
        s.kv().put(put("lg", "1")).await?;
        Ok(())
    })
    .await?;
    members(s).await
}

/// A member that was added to vote does so once it has caught up.
async fn serves(s: &Session) -> Result<()> {
    eventually_async("it serves", LIMIT, async || {
        s.kv().range(get("none")).await?;
        Ok(())
    })
    .await
}

fn wanting_leader<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    let metadata = request.metadata_mut();
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    request
}

/// Two of three are killed: who wants a leader is refused at once, and streams that wanted one end after a while; others
/// go on.
async fn a_leader_is_lost(s: &mut Session, cluster: &mut StoreCluster) -> Result<()> {
    s.put(put("ll", "1")).await?;
    let mut led = Watching::open_led(s, watch_of("ll", "")).await?;
    led.next(s).await?;
    let mut unled = Watching::open(s, watch_of("ll", "")).await?;
    unled.next(s).await?;
    let request = pb::LeaseGrantRequest { id: 9901, ttl: 600 };
    let answer = s.lease().lease_grant(request).await;
    s.record("grant", answer)?;
    let requests = futures::stream::iter([pb::LeaseKeepAliveRequest { id: 9901 }]);
    let requests = wanting_leader(requests.chain(futures::stream::pending()));
    let mut renewals = s.lease().lease_keep_alive(requests).await?.into_inner();
    let renewed = renewals.next().await.context("a renewal")?;
    s.record("keep alive", renewed.map(tonic::Response::new))?;

    cluster.kill(0)?;
    cluster.kill(2)?;
    let end = led.end().await?;
    s.error("a watch that wants a leader", &end);
    let end = tokio::time::timeout(LIMIT, renewals.next()).await?;
    let end = end.context("an error")?.err().context("not a renewal")?;
    s.error("a keepalive that wants a leader", &end);
    let answer = s.kv().put(wanting_leader(put("ll", "2"))).await;
    s.record("put", answer)?;
    let serializable = pb::RangeRequest {
        serializable: true,
        ..get("ll")
    };
    let answer = s.kv().range(wanting_leader(serializable.clone())).await;
    s.record("range", answer)?;
    let again = match Watching::open_led(s, watch_of("ll", "")).await {
        Ok(mut watch) => watch.end().await?,
        Err(error) => error.downcast::<tonic::Status>()?,
    };
    s.error("another watch that wants a leader", &again);
    unled.create(watch_of("lm", "")).await?;
    unled.next(s).await?;
    s.range(serializable).await?;
    let status = s.maintenance().status(pb::StatusRequest {}).await?;
    let status = status.into_inner();
    s.note(format!("leader {}, {:?}", status.leader, status.errors));

    cluster.start(0)?;
    cluster.start(2)?;
    serves(s).await?;
    s.put(put("ll", "3")).await?;
    unled.events(s, 1).await
}

async fn an_update_to_nowhere(s: &mut Session, _: &mut StoreCluster) -> Result<()> {
    let id = id_of(s, "m4").await?;
    update(s, id, &["nonsense"]).await?;
    update(s, id, &[]).await
}
