//! The lock and election services.

use anyhow::{Context, Result};
use futures::StreamExt;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::v3electionpb as election;
use xebec_proto::v3lockpb as lock;

use super::{delete, get, span};
use crate::session::Session;

crate::cases!("locks":
    lock_and_unlock, lock_waits, lock_again, lock_without_lease, unlock_unknown, campaign, campaign_again, campaign_waits,
    proclaim, proclaim_by_another, leader_of_none, resign, resign_without_leader, observe,
);

async fn grant(s: &mut Session, id: i64) -> Result<()> {
    let answer = s
        .lease()
        .lease_grant(pb::LeaseGrantRequest { id, ttl: 600 })
        .await;
    s.record("grant", answer).map(drop)
}

async fn revoke(s: &mut Session, id: i64) -> Result<()> {
    let answer = s.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await;
    s.record("revoke", answer).map(drop)
}

fn lock_of(name: &'static str, lease: i64) -> lock::LockRequest {
    lock::LockRequest {
        name: name.into(),
        lease,
    }
}

async fn lock_and_unlock(s: &mut Session) -> Result<()> {
    grant(s, 9001).await?;
    let answer = s.locks().lock(lock_of("k1", 9001)).await;
    let held = s.record("lock", answer)?.context("a lock")?;
    s.range(span("k1", "k2")).await?;
    let answer = s
        .locks()
        .unlock(lock::UnlockRequest { key: held.key })
        .await;
    s.record("unlock", answer)?;
    s.range(span("k1", "k2")).await?;
    revoke(s, 9001).await
}

async fn lock_waits(s: &mut Session) -> Result<()> {
    grant(s, 9011).await?;
    grant(s, 9012).await?;
    let answer = s.locks().lock(lock_of("k2", 9011)).await;
    let held = s.record("lock", answer)?.context("a lock")?;
    let mut locks = s.locks();
    let second = tokio::spawn(async move { locks.lock(lock_of("k2", 9012)).await });
    // It is in the queue once its key is there.
    while s.kv().range(span("k2", "k3")).await?.into_inner().count < 2 && !second.is_finished() {
        tokio::task::yield_now().await;
    }
    s.note(format!("waits: {}", !second.is_finished()));
    let answer = s
        .locks()
        .unlock(lock::UnlockRequest { key: held.key })
        .await;
    s.record("unlock", answer)?;
    let answer = second.await?;
    s.record("lock", answer)?;
    revoke(s, 9011).await?;
    revoke(s, 9012).await
}

async fn lock_again(s: &mut Session) -> Result<()> {
    grant(s, 9021).await?;
    for _ in 0..2 {
        let answer = s.locks().lock(lock_of("k3", 9021)).await;
        s.record("lock", answer)?;
    }
    revoke(s, 9021).await
}

async fn lock_without_lease(s: &mut Session) -> Result<()> {
    let answer = s.locks().lock(lock_of("k4", 0)).await?.into_inner();
    s.note(format!("{}", answer.key.starts_with(b"k4/")));
    let held = s.kv().range(span("k4", "k5")).await?.into_inner();
    let lease = held.kvs.first().context("the lock's key")?.lease;
    let left = s
        .lease()
        .lease_time_to_live(pb::LeaseTimeToLiveRequest {
            id: lease,
            keys: false,
        })
        .await?;
    s.note(format!("granted {}", left.into_inner().granted_ttl));
    let answer = s
        .lease()
        .lease_revoke(pb::LeaseRevokeRequest { id: lease })
        .await;
    s.record("revoke", answer)?;
    let answer = s.locks().lock(lock_of("k4", 1_234_567)).await;
    s.record("lock with an unknown lease", answer).map(drop)
}

async fn unlock_unknown(s: &mut Session) -> Result<()> {
    let answer = s
        .locks()
        .unlock(lock::UnlockRequest { key: "none".into() })
        .await;
    s.record("unlock", answer)?;
    let answer = s.locks().unlock(lock::UnlockRequest::default()).await;
    s.record("unlock", answer).map(drop)
}

fn campaign_of(name: &'static str, lease: i64, value: &'static str) -> election::CampaignRequest {
    election::CampaignRequest {
        name: name.into(),
        lease,
        value: value.into(),
    }
}

async fn lead(s: &mut Session, request: election::CampaignRequest) -> Result<election::LeaderKey> {
    let answer = s.elections().campaign(request).await;
    s.record("campaign", answer)?
        .context("leads")?
        .leader
        .context("a key")
}

async fn leader(s: &mut Session, name: &'static str) -> Result<()> {
    let answer = s
        .elections()
        .leader(election::LeaderRequest { name: name.into() })
        .await;
    s.record("leader", answer).map(drop)
}

async fn campaign(s: &mut Session) -> Result<()> {
    grant(s, 9101).await?;
    lead(s, campaign_of("e1", 9101, "one")).await?;
    leader(s, "e1").await?;
    revoke(s, 9101).await?;
    leader(s, "e1").await
}

async fn campaign_again(s: &mut Session) -> Result<()> {
    grant(s, 9111).await?;
    lead(s, campaign_of("e2", 9111, "one")).await?;
    lead(s, campaign_of("e2", 9111, "one")).await?;
    lead(s, campaign_of("e2", 9111, "two")).await?;
    leader(s, "e2").await?;
    revoke(s, 9111).await
}

async fn campaign_waits(s: &mut Session) -> Result<()> {
    grant(s, 9121).await?;
    grant(s, 9122).await?;
    lead(s, campaign_of("e3", 9121, "one")).await?;
    let mut elections = s.elections();
    let second =
        tokio::spawn(async move { elections.campaign(campaign_of("e3", 9122, "two")).await });
    while s.kv().range(span("e3", "e4")).await?.into_inner().count < 2 && !second.is_finished() {
        tokio::task::yield_now().await;
    }
    leader(s, "e3").await?;
    revoke(s, 9121).await?;
    let answer = second.await?;
    s.record("campaign", answer)?;
    leader(s, "e3").await?;
    revoke(s, 9122).await
}

async fn proclaim(s: &mut Session) -> Result<()> {
    grant(s, 9131).await?;
    let key = lead(s, campaign_of("e4", 9131, "one")).await?;
    let request = election::ProclaimRequest {
        leader: Some(key),
        value: "two".into(),
    };
    let answer = s.elections().proclaim(request).await;
    s.record("proclaim", answer)?;
    leader(s, "e4").await?;
    let answer = s
        .elections()
        .proclaim(election::ProclaimRequest::default())
        .await;
    s.record("proclaim", answer)?;
    revoke(s, 9131).await
}

async fn proclaim_by_another(s: &mut Session) -> Result<()> {
    grant(s, 9141).await?;
    let key = lead(s, campaign_of("e5", 9141, "one")).await?;
    revoke(s, 9141).await?;
    grant(s, 9141).await?;
    let request = election::ProclaimRequest {
        leader: Some(key),
        value: "two".into(),
    };
    let answer = s.elections().proclaim(request).await;
    s.record("proclaim", answer)?;
    s.range(span("e5", "e6")).await?;
    revoke(s, 9141).await
}

async fn leader_of_none(s: &mut Session) -> Result<()> {
    leader(s, "none").await?;
    leader(s, "").await
}

async fn resign(s: &mut Session) -> Result<()> {
    grant(s, 9151).await?;
    let key = lead(s, campaign_of("e6", 9151, "one")).await?;
    for _ in 0..2 {
        let request = election::ResignRequest {
            leader: Some(key.clone()),
        };
        let answer = s.elections().resign(request).await;
        s.record("resign", answer)?;
    }
    leader(s, "e6").await?;
    revoke(s, 9151).await
}

async fn resign_without_leader(s: &mut Session) -> Result<()> {
    let answer = s
        .elections()
        .resign(election::ResignRequest::default())
        .await;
    s.record("resign", answer).map(drop)
}

async fn observe(s: &mut Session) -> Result<()> {
    grant(s, 9161).await?;
    let key = lead(s, campaign_of("e7", 9161, "one")).await?;
    let request = election::LeaderRequest { name: "e7".into() };
    let mut seen = s.elections().observe(request).await?.into_inner();
    let next = seen.next().await.context("the leader")?;
    s.record("observe", next.map(tonic::Response::new))?;
    let request = election::ProclaimRequest {
        leader: Some(key),
        value: "two".into(),
    };
    s.elections().proclaim(request).await?;
    let next = seen.next().await.context("the proclaimed value")?;
    s.record("observe", next.map(tonic::Response::new))?;
    s.delete(delete("e7/", "e70")).await?;
    let next = lead(s, campaign_of("e7", 9161, "three")).await?;
    s.note(format!("{:?}", next.name));
    let next = seen.next().await.context("the next leader")?;
    s.record("observe", next.map(tonic::Response::new))?;
    s.range(get("e7")).await?;
    revoke(s, 9161).await
}
