//! Leases.

use anyhow::{Context, Result};
use futures::StreamExt;
use xebec_proto::etcdserverpb as pb;

use super::{get, put, watch_of};
use crate::session::Session;
use crate::watching::Watching;

crate::cases!("lease":
    chosen_id, short_times_are_raised, too_long, exists, negative_values, revoke_deletes_keys, revoke_unknown, time_to_live,
    time_to_live_unknown, keep_alive, keep_alive_unknown, keep_alive_goes_on, list, grant_changes_no_revision, expiry,
);

async fn grant(s: &mut Session, id: i64, ttl: i64) -> Result<()> {
    let answer = s
        .lease()
        .lease_grant(pb::LeaseGrantRequest { id, ttl })
        .await;
    s.record("grant", answer).map(drop)
}

async fn revoke(s: &mut Session, id: i64) -> Result<()> {
    let answer = s.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await;
    s.record("revoke", answer).map(drop)
}

async fn left(s: &mut Session, id: i64, keys: bool) -> Result<()> {
    let answer = s
        .lease()
        .lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys })
        .await;
    let answer = answer.map(|answer| {
        let mut answer = answer.into_inner();
        // A second may have passed.
        if (answer.granted_ttl - 2..answer.granted_ttl).contains(&answer.ttl) {
            answer.ttl = answer.granted_ttl;
        }
        tonic::Response::new(answer)
    });
    s.record("time to live", answer).map(drop)
}

async fn renew(s: &mut Session, ids: Vec<i64>) -> Result<()> {
    let count = ids.len();
    let requests = ids.into_iter().map(|id| pb::LeaseKeepAliveRequest { id });
    let requests = futures::stream::iter(requests).chain(futures::stream::pending());
    let mut answers = s.lease().lease_keep_alive(requests).await?.into_inner();
    for _ in 0..count {
        let answer = answers.next().await.context("an answer to each")?;
        s.record("keep alive", answer.map(tonic::Response::new))?;
    }
    Ok(())
}

async fn chosen_id(s: &mut Session) -> Result<()> {
    let granted = s
        .lease()
        .lease_grant(pb::LeaseGrantRequest { id: 0, ttl: 100 })
        .await?
        .into_inner();
    s.note(format!(
        "positive: {}, ttl {}, error {:?}",
        granted.id > 0,
        granted.ttl,
        granted.error
    ));
    revoke_quietly(s, granted.id).await?;
    grant(s, 8001, 100).await?;
    revoke(s, 8001).await
}

async fn revoke_quietly(s: &mut Session, id: i64) -> Result<()> {
    let answer = s.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await;
    s.note(format!("revoked: {}", answer.is_ok()));
    Ok(())
}

async fn short_times_are_raised(s: &mut Session) -> Result<()> {
    for (id, ttl) in [(8010, 0), (8011, 1), (8012, 2), (8013, 3)] {
        grant(s, id, ttl).await?;
        revoke(s, id).await?;
    }
    Ok(())
}

async fn too_long(s: &mut Session) -> Result<()> {
    grant(s, 8020, 9_000_000_001).await?;
    grant(s, 8020, i64::MAX).await?;
    grant(s, 8020, 9_000_000_000).await?;
    revoke(s, 8020).await
}

async fn exists(s: &mut Session) -> Result<()> {
    grant(s, 8030, 100).await?;
    grant(s, 8030, 200).await?;
    left(s, 8030, false).await?;
    revoke(s, 8030).await
}

async fn negative_values(s: &mut Session) -> Result<()> {
    grant(s, 8040, -5).await?;
    revoke(s, 8040).await?;
    grant(s, -8041, 100).await?;
    left(s, -8041, true).await?;
    revoke(s, -8041).await
}

async fn revoke_deletes_keys(s: &mut Session) -> Result<()> {
    grant(s, 8050, 100).await?;
    for key in ["lr/2", "lr/1"] {
        s.put(pb::PutRequest {
            lease: 8050,
            ..put(key, "x")
        })
        .await?;
    }
    revoke(s, 8050).await?;
    s.range(get("lr/1")).await?;
    s.range(get("lr/2")).await?;
    revoke(s, 8050).await
}

async fn revoke_unknown(s: &mut Session) -> Result<()> {
    revoke(s, 4_444_444).await?;
    revoke(s, 0).await
}

async fn time_to_live(s: &mut Session) -> Result<()> {
    grant(s, 8060, 100).await?;
    left(s, 8060, false).await?;
    left(s, 8060, true).await?;
    for key in ["tl/b", "tl/a"] {
        s.put(pb::PutRequest {
            lease: 8060,
            ..put(key, "x")
        })
        .await?;
    }
    left(s, 8060, false).await?;
    // etcd lists the keys in no order.
    let answer = s
        .lease()
        .lease_time_to_live(pb::LeaseTimeToLiveRequest {
            id: 8060,
            keys: true,
        })
        .await?;
    let mut keys = answer.into_inner().keys;
    keys.sort();
    s.note(format!("{keys:?}"));
    s.put(put("tl/a", "x")).await?;
    left(s, 8060, true).await?;
    revoke(s, 8060).await
}

async fn time_to_live_unknown(s: &mut Session) -> Result<()> {
    left(s, 4_444_444, false).await?;
    left(s, 4_444_444, true).await?;
    left(s, 0, true).await
}

async fn keep_alive(s: &mut Session) -> Result<()> {
    grant(s, 8070, 100).await?;
    renew(s, vec![8070, 8070]).await?;
    revoke(s, 8070).await?;
    renew(s, vec![8070]).await
}

async fn keep_alive_unknown(s: &mut Session) -> Result<()> {
    renew(s, vec![4_444_444, 0]).await
}

async fn keep_alive_goes_on(s: &mut Session) -> Result<()> {
    grant(s, 8080, 100).await?;
    renew(s, vec![4_444_444, 8080]).await?;
    revoke(s, 8080).await
}

async fn list(s: &mut Session) -> Result<()> {
    for id in [8092, 8090, 8091] {
        grant(s, id, 100).await?;
    }
    let answer = s
        .lease()
        .lease_leases(pb::LeaseLeasesRequest {})
        .await?
        .into_inner();
    let mut ids: Vec<i64> = answer.leases.into_iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    s.note(format!("{ids:?}"));
    for id in [8092, 8090, 8091] {
        revoke(s, id).await?;
    }
    let answer = s.lease().lease_leases(pb::LeaseLeasesRequest {}).await;
    s.record("leases", answer).map(drop)
}

async fn grant_changes_no_revision(s: &mut Session) -> Result<()> {
    grant(s, 8100, 100).await?;
    s.range(get("none")).await?;
    revoke(s, 8100).await?;
    s.range(get("none")).await?;
    Ok(())
}

/// When nobody renews it, its keys go in one revision, in order.
async fn expiry(s: &mut Session) -> Result<()> {
    grant(s, 8110, 2).await?;
    for key in ["ex/2", "ex/1"] {
        s.put(pb::PutRequest {
            lease: 8110,
            ..put(key, "x")
        })
        .await?;
    }
    let mut watch = Watching::open(s, watch_of("ex/", "ex0")).await?;
    watch.next(s).await?;
    watch.next(s).await?;
    left(s, 8110, true).await?;
    renew(s, vec![8110]).await?;
    revoke(s, 8110).await
}
