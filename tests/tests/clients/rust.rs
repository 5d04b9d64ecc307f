//! The Rust crate `etcd-client` against three members: every service that it has a client for, auth aside.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, EventType,
    GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, ProclaimOptions,
    PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
    WatchResponse, WatchStream,
};
use tests::{StoreCluster, eventually_async};

const LIMIT: Duration = Duration::from_secs(30);

async fn connect(cluster: &StoreCluster, members: &[usize]) -> Result<Client> {
    let endpoints = cluster.endpoints(members);
    let endpoints: Vec<&str> = endpoints.split(',').collect();
    let options = ConnectOptions::new()
        .with_timeout(LIMIT)
        .with_keep_alive(Duration::from_secs(1), LIMIT)
        .with_require_leader(true);
    Ok(Client::connect(endpoints, Some(options)).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_client_of_rust() -> Result<()> {
    let cluster = StoreCluster::found(&[])?;
    let mut client = connect(&cluster, &[0, 1, 2]).await?;
    keys(&mut client).await?;
    transactions(&mut client).await?;
    watches(&mut client).await?;
    leases(&mut client).await?;
    locks(&mut client).await?;
    elections(&mut client).await?;
    maintenance(&mut client).await?;
    members(&cluster).await
}

async fn keys(client: &mut Client) -> Result<()> {
    client.put("k/a", "1", None).await?;
    client.put("k/b", vec![0, 255], None).await?;
    let previous = PutOptions::new().with_prev_key();
    let put = client.put("k/a", "2", Some(previous)).await?;
    let before = put.prev_key().context("the previous value")?;
    ensure!(before.value() == b"1" && before.version() == 1);
    let backwards = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Key, SortOrder::Descend);
    let found = client.get("k/", Some(backwards)).await?;
    let keys: Vec<&[u8]> = found.kvs().iter().map(|kv| kv.key()).collect();
    ensure!(keys == [b"k/b", b"k/a"], "{found:?}");
    let old = GetOptions::new().with_revision(before.mod_revision());
    let found = client.get("k/a", Some(old)).await?;
    ensure!(found.kvs()[0].value() == b"1", "{found:?}");
    let all = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("k/", Some(all)).await?;
    ensure!(
        deleted.deleted() == 2 && deleted.prev_kvs().len() == 2,
        "{deleted:?}"
    );
    Ok(())
}

async fn transactions(client: &mut Client) -> Result<()> {
    client.put("t/a", "1", None).await?;
    let nested = Txn::new().and_then(vec![TxnOp::put("t/b", "nested", None)]);
    let txn = Txn::new()
        .when(vec![
            Compare::value("t/a", CompareOp::Equal, "1"),
            Compare::create_revision("t/none", CompareOp::Equal, 0),
        ])
        .and_then(vec![
            TxnOp::put("t/a", "2", None),
            TxnOp::get("t/a", None),
            TxnOp::txn(nested),
        ])
        .or_else(vec![TxnOp::delete("t/a", None)]);
    let answer = client.txn(txn.clone()).await?;
    ensure!(answer.succeeded(), "{answer:?}");
    let answers = answer.op_responses();
    let [
        TxnOpResponse::Put(_),
        TxnOpResponse::Get(get),
        TxnOpResponse::Txn(nested),
    ] = &answers[..]
    else {
        anyhow::bail!("{answers:?}");
    };
    ensure!(
        get.kvs()[0].value() == b"2" && nested.succeeded(),
        "{answers:?}"
    );
    let again = client.txn(txn).await?;
    let answers = again.op_responses();
    ensure!(!again.succeeded(), "{again:?}");
    ensure!(
        matches!(&answers[..], [TxnOpResponse::Delete(delete)] if delete.deleted() == 1),
        "{answers:?}"
    );
    Ok(())
}

async fn next(stream: &mut WatchStream) -> Result<WatchResponse> {
    let message = tokio::time::timeout(LIMIT, stream.message()).await;
    message.context("no answer")??.context("the stream ended")
}

async fn watches(client: &mut Client) -> Result<()> {
    let options = WatchOptions::new()
        .with_prefix()
        .with_prev_key()
        .with_watch_id(7);
    let mut stream = client.watch("w/", Some(options)).await?;
    let created = next(&mut stream).await?;
    ensure!(created.created() && created.watch_id() == 7, "{created:?}");
    let start = created.header().context("a header")?.revision();
    client.put("w/a", "1", None).await?;
    client.put("w/a", "2", None).await?;
    client.delete("w/a", None).await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let response = next(&mut stream).await?;
        for event in response.events() {
            let value = event.kv().map(|kv| kv.value().to_vec());
            let before = event.prev_kv().map(|kv| kv.value().to_vec());
            seen.push((event.event_type(), value, before));
        }
    }
    let (one, two, none) = (b"1".to_vec(), b"2".to_vec(), Vec::new());
    let expect = [
        (EventType::Put, Some(one.clone()), None),
        (EventType::Put, Some(two.clone()), Some(one)),
        (EventType::Delete, Some(none), Some(two)),
    ];
    ensure!(seen == expect, "{seen:?}");
    let history = WatchOptions::new()
        .with_start_revision(start + 1)
        .with_watch_id(8);
    stream.watch("w/a", Some(history)).await?;
    let created = next(&mut stream).await?;
    ensure!(created.created() && created.watch_id() == 8, "{created:?}");
    let told = next(&mut stream).await?;
    ensure!(
        told.watch_id() == 8 && !told.events().is_empty(),
        "{told:?}"
    );
    stream.cancel(8).await?;
    loop {
        let response = next(&mut stream).await?;
        if response.canceled() {
            ensure!(response.watch_id() == 8, "{response:?}");
            break;
        }
    }
    stream.request_progress().await?;
    let progress = next(&mut stream).await?;
    let revision = progress.header().context("a header")?.revision();
    ensure!(
        progress.events().is_empty() && revision >= start + 3,
        "{progress:?}"
    );
    Ok(())
}

async fn leases(client: &mut Client) -> Result<()> {
    let chosen = LeaseGrantOptions::new().with_id(4242);
    let lease = client.lease_grant(600, Some(chosen)).await?;
    ensure!(lease.id() == 4242 && lease.ttl() == 600, "{lease:?}");
    let bound = PutOptions::new().with_lease(lease.id());
    client.put("l/a", "1", Some(bound)).await?;
    let with_keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(4242, Some(with_keys)).await?;
    ensure!(
        left.granted_ttl() == 600 && left.keys() == [b"l/a"],
        "{left:?}"
    );
    let (mut keeper, mut answers) = client.lease_keep_alive(4242).await?;
    for _ in 0..2 {
        keeper.keep_alive().await?;
        let kept = answers.message().await?.context("an answer")?;
        ensure!(kept.id() == 4242 && kept.ttl() == 600, "{kept:?}");
    }
    let all = client.leases().await?;
    ensure!(
        all.leases().iter().any(|lease| lease.id() == 4242),
        "{all:?}"
    );
    client.lease_revoke(4242).await?;
    let gone = client.get("l/a", None).await?;
    ensure!(gone.kvs().is_empty(), "{gone:?}");
    let ended = client.lease_keep_alive(4242).await;
    ensure!(ended.is_err(), "a lease that is gone was kept alive");
    let short = client.lease_grant(1, None).await?;
    let bound = PutOptions::new().with_lease(short.id());
    client.put("l/b", "1", Some(bound)).await?;
    let reader = client.kv_client();
    eventually_async("the key ends with its lease", LIMIT, async || {
        let found = reader.clone().get("l/b", None).await?;
        ensure!(found.kvs().is_empty(), "{found:?}");
        Ok(())
    })
    .await
}

async fn locks(client: &mut Client) -> Result<()> {
    let lease = client.lease_grant(60, None).await?.id();
    let options = LockOptions::new().with_lease(lease);
    let held = client.lock("mutex", Some(options)).await?.key().to_vec();
    let mut other = client.lock_client();
    let waits = tokio::spawn(async move { other.lock("mutex", None).await });
    let in_line = GetOptions::new().with_prefix().with_count_only();
    let reader = client.kv_client();
    eventually_async("two are in line", LIMIT, async || {
        let count = reader.clone().get("mutex/", Some(in_line.clone())).await?;
        ensure!(count.count() == 2, "{count:?}");
        Ok(())
    })
    .await?;
    ensure!(!waits.is_finished(), "two hold the lock");
    client.unlock(held).await?;
    let second = tokio::time::timeout(LIMIT, waits).await???;
    client.unlock(second.key()).await?;
    Ok(())
}

async fn elections(client: &mut Client) -> Result<()> {
    let lease = client.lease_grant(60, None).await?.id();
    let elected = client.campaign("chair", "one", lease).await?;
    let leader = elected.leader().context("a leader's key")?.clone();
    let mut observed = client.observe("chair").await?;
    let first = observed.message().await?.context("the leader")?;
    ensure!(
        first.kv().is_some_and(|kv| kv.value() == b"one"),
        "{first:?}"
    );
    let as_leader = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("two", Some(as_leader)).await?;
    let second = observed.message().await?.context("the leader")?;
    ensure!(
        second.kv().is_some_and(|kv| kv.value() == b"two"),
        "{second:?}"
    );
    let now = client.leader("chair").await?;
    ensure!(now.kv().is_some_and(|kv| kv.value() == b"two"), "{now:?}");
    let as_leader = ResignOptions::new().with_leader(leader);
    client.resign(Some(as_leader)).await?;
    ensure!(client.leader("chair").await.is_err(), "nobody leads");
    Ok(())
}

async fn maintenance(client: &mut Client) -> Result<()> {
    let status = client.status().await?;
    ensure!(
        status.version().starts_with("3.") && status.leader() != 0,
        "{status:?}"
    );
    let alarms = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await?;
    ensure!(alarms.alarms().is_empty(), "{alarms:?}");
    client.defragment().await?;
    client.hash().await?;
    let revision = client.put("m/a", "1", None).await?;
    let revision = revision.header().context("a header")?.revision();
    client.compact(revision, None).await?;
    let old = GetOptions::new().with_revision(revision - 1);
    let refused = client.get("m/a", Some(old)).await.err();
    let refused = refused.context("what was compacted was read")?.to_string();
    ensure!(refused.contains("has been compacted"), "{refused}");
    let mut snapshot = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(part) = snapshot.message().await? {
        bytes += part.blob().len();
    }
    ensure!(bytes % 512 == 32, "no checksum at the end of {bytes} bytes");
    Ok(())
}

/// The leader gives way, a learner comes and goes.
async fn members(cluster: &StoreCluster) -> Result<()> {
    let leader = cluster.leader(&[0, 1, 2])?;
    let next = (leader + 1) % 3;
    let mut client = connect(cluster, &[leader]).await?;
    let listed = client.member_list().await?;
    let name = &cluster.members[next].name;
    let next_id = listed.members().iter().find(|it| it.name() == name);
    let next_id = next_id.context("it is listed")?.id();
    client.move_leader(next_id).await?;
    ensure!(cluster.leader(&[0, 1, 2])? == next);
    let mut client = connect(cluster, &[next]).await?;
    let as_learner = etcd_client::MemberAddOptions::new().with_is_learner();
    let added = client
        .member_add(["http://127.0.0.1:1"], Some(as_learner))
        .await?;
    let added = added.member().context("a member")?.id();
    let elsewhere = vec!["http://127.0.0.1:2".to_owned()];
    client.member_update(added, elsewhere).await?;
    ensure!(
        client.member_promote(added).await.is_err(),
        "it never started"
    );
    let left = client.member_remove(added).await?;
    ensure!(left.members().len() == 3, "{left:?}");
    cluster.check_hashes(&[0, 1, 2])
}
