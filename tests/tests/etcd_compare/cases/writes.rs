//! Put and DeleteRange.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;

use super::{delete, get, put, span};
use crate::session::Session;

crate::cases!("writes":
    versions_start_over, previous, leases_are_detached, ignore_value, ignore_lease, put_errors, empty_value,
    delete_ranges, delete_nothing, delete_errors,
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

async fn versions_start_over(s: &mut Session) -> Result<()> {
    for _ in 0..2 {
        s.put(put("v", "1")).await?;
        s.put(put("v", "1")).await?;
        s.range(get("v")).await?;
        s.delete(delete("v", "")).await?;
        s.range(get("v")).await?;
    }
    Ok(())
}

async fn previous(s: &mut Session) -> Result<()> {
    let prev_kv = true;
    s.put(pb::PutRequest {
        prev_kv,
        ..put("p", "1")
    })
    .await?;
    s.put(pb::PutRequest {
        prev_kv,
        ..put("p", "2")
    })
    .await?;
    s.delete(pb::DeleteRangeRequest {
        prev_kv,
        ..delete("p", "")
    })
    .await?;
    s.put(pb::PutRequest {
        prev_kv,
        ..put("p", "3")
    })
    .await?;
    Ok(())
}

async fn leases_are_detached(s: &mut Session) -> Result<()> {
    grant(s, 5001).await?;
    grant(s, 5002).await?;
    s.put(pb::PutRequest {
        lease: 5001,
        ..put("l", "1")
    })
    .await?;
    s.range(get("l")).await?;
    s.put(pb::PutRequest {
        lease: 5002,
        ..put("l", "2")
    })
    .await?;
    revoke(s, 5001).await?;
    s.range(get("l")).await?;
    s.put(put("l", "3")).await?;
    revoke(s, 5002).await?;
    s.range(get("l")).await?;
    s.put(pb::PutRequest {
        lease: 5002,
        ..put("l", "4")
    })
    .await?;
    s.put(pb::PutRequest {
        lease: -1,
        ..put("l", "4")
    })
    .await?;
    s.range(get("l")).await?;
    Ok(())
}

async fn ignore_value(s: &mut Session) -> Result<()> {
    let ignore_value = true;
    s.put(pb::PutRequest {
        ignore_value,
        ..put("iv", "")
    })
    .await?;
    grant(s, 5003).await?;
    s.put(put("iv", "1")).await?;
    s.put(pb::PutRequest {
        ignore_value,
        lease: 5003,
        ..put("iv", "")
    })
    .await?;
    s.range(get("iv")).await?;
    s.put(pb::PutRequest {
        ignore_value,
        prev_kv: true,
        ..put("iv", "")
    })
    .await?;
    s.range(get("iv")).await?;
    s.put(pb::PutRequest {
        ignore_value,
        ..put("iv", "2")
    })
    .await?;
    revoke(s, 5003).await
}

async fn ignore_lease(s: &mut Session) -> Result<()> {
    let ignore_lease = true;
    s.put(pb::PutRequest {
        ignore_lease,
        ..put("il", "1")
    })
    .await?;
    grant(s, 5004).await?;
    s.put(pb::PutRequest {
        lease: 5004,
        ..put("il", "1")
    })
    .await?;
    s.put(pb::PutRequest {
        ignore_lease,
        ..put("il", "2")
    })
    .await?;
    s.range(get("il")).await?;
    s.put(pb::PutRequest {
        ignore_lease,
        ignore_value: true,
        ..put("il", "")
    })
    .await?;
    s.put(pb::PutRequest {
        ignore_lease,
        lease: 5004,
        ..put("il", "2")
    })
    .await?;
    revoke(s, 5004).await?;
    s.range(get("il")).await?;
    Ok(())
}

async fn put_errors(s: &mut Session) -> Result<()> {
    s.put(put("", "1")).await?;
    s.put(pb::PutRequest {
        lease: 999_999,
        ..put("pe", "1")
    })
    .await?;
    s.put(pb::PutRequest {
        lease: 1,
        ignore_lease: true,
        ignore_value: true,
        ..put("pe", "1")
    })
    .await?;
    s.range(get("pe")).await?;
    Ok(())
}

async fn empty_value(s: &mut Session) -> Result<()> {
    s.put(put("ev", "")).await?;
    s.range(get("ev")).await?;
    Ok(())
}

async fn delete_ranges(s: &mut Session) -> Result<()> {
    for key in ["d/1", "d/2", "d/3", "d/4"] {
        s.put(put(key, "x")).await?;
    }
    s.delete(delete("d/2", "d/4")).await?;
    s.range(span("d/", "d0")).await?;
    s.delete(pb::DeleteRangeRequest {
        prev_kv: true,
        ..delete("d/", "d0")
    })
    .await?;
    s.range(span("d/", "d0")).await?;
    let revision = s.base() + 4;
    s.range(pb::RangeRequest {
        revision,
        ..span("d/", "d0")
    })
    .await?;
    Ok(())
}

async fn delete_nothing(s: &mut Session) -> Result<()> {
    s.delete(delete("none", "")).await?;
    s.delete(delete("none", "nonf")).await?;
    s.delete(delete("b", "a")).await?;
    s.delete(pb::DeleteRangeRequest {
        prev_kv: true,
        ..delete("none", "")
    })
    .await?;
    Ok(())
}

async fn delete_errors(s: &mut Session) -> Result<()> {
    s.delete(delete("", "")).await?;
    s.delete(delete("", "\0")).await?;
    Ok(())
}
