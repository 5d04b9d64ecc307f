//! The calls that a kube-apiserver makes, in the forms in which it makes them.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use super::txn_compare::compare;
use super::{get, op, put, span, then, watch_of};
use crate::session::Session;
use crate::watching::Watching;

crate::cases!("kubernetes": objects, lists, the_compactor, watches);

const KEY: &str = "/registry/pods/default/a";

fn if_unchanged(revision: i64, write: pb::RequestOp) -> pb::TxnRequest {
    let unchanged = compare(
        KEY,
        CompareTarget::Mod,
        CompareResult::Equal,
        TargetUnion::ModRevision(revision),
    );
    pb::TxnRequest {
        compare: vec![unchanged],
        success: vec![write],
        failure: vec![op::range(get(KEY))],
    }
}

async fn objects(s: &mut Session) -> Result<()> {
    let request = pb::LeaseGrantRequest {
        id: 4101,
        ttl: 3600,
    };
    let answer = s.lease().lease_grant(request).await;
    s.record("grant", answer)?;
    let leased = |value: &'static str| {
        op::put_with(pb::PutRequest {
            lease: 4101,
            ..put(KEY, value)
        })
    };
    s.txn(if_unchanged(0, leased("1"))).await?;
    s.txn(if_unchanged(0, leased("2"))).await?;
    s.txn(if_unchanged(s.base() + 1, op::put(KEY, "2"))).await?;
    s.txn(if_unchanged(s.base() + 1, op::delete(KEY, "")))
        .await?;
    s.txn(if_unchanged(s.base() + 2, op::delete(KEY, "")))
        .await?;
    s.txn(if_unchanged(s.base() + 2, op::delete(KEY, "")))
        .await?;
    let request = pb::LeaseRevokeRequest { id: 4101 };
    let answer = s.lease().lease_revoke(request).await;
    s.record("revoke", answer).map(drop)
}

/// In pages, at the first one's revision.
async fn lists(s: &mut Session) -> Result<()> {
    for key in ["/registry/l/1", "/registry/l/2", "/registry/l/3"] {
        s.put(put(key, "x")).await?;
    }
    let revision = s.base() + 3;
    s.put(put("/registry/l/2", "y")).await?;
    let page = |key, revision| pb::RangeRequest {
        limit: 2,
        revision,
        ..span(key, "/registry/l0")
    };
    s.range(page("/registry/l/", 0)).await?;
    s.range(page("/registry/l/2\0", revision)).await?;
    s.range(pb::RangeRequest {
        count_only: true,
        ..span("/registry/l/", "/registry/l0")
    })
    .await?;
    s.range(pb::RangeRequest {
        keys_only: true,
        ..span("/registry/l/", "/registry/l0")
    })
    .await?;
    s.range(get("/registry/health")).await.map(drop)
}

/// Several servers agree on who compacts by the version of a key.
async fn the_compactor(s: &mut Session) -> Result<()> {
    let key = "compact_rev_key";
    let known = |version| {
        let target = TargetUnion::Version(version);
        pb::TxnRequest {
            compare: vec![compare(
                key,
                CompareTarget::Version,
                CompareResult::Equal,
                target,
            )],
            success: vec![op::put(key, "1")],
            failure: vec![op::range(get(key))],
        }
    };
    s.txn(known(0)).await?;
    s.txn(known(0)).await?;
    s.txn(known(1)).await?;
    s.txn(then(vec![op::delete(key, "")])).await.map(drop)
}

async fn watches(s: &mut Session) -> Result<()> {
    s.put(put("/registry/w/1", "x")).await?;
    let request = pb::WatchCreateRequest {
        start_revision: s.base() + 1,
        prev_kv: true,
        progress_notify: false,
        ..watch_of("/registry/w/", "/registry/w0")
    };
    let mut watch = Watching::open_led(s, request).await?;
    watch.next(s).await?;
    watch.events(s, 1).await?;
    s.put(put("/registry/v/1", "x")).await?;
    watch.ask_progress().await?;
    watch.next(s).await?;
    s.txn(then(vec![
        op::put("/registry/w/1", "y"),
        op::put("/registry/w/2", "y"),
    ]))
    .await?;
    watch.events(s, 2).await
}
