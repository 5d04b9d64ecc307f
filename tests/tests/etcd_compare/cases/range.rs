//! Range with each of its options.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::{delete, get, put, span};
use crate::session::Session;

crate::cases!("range":
    single_key, empty_key, to_the_end, everything, end_below_start, limits, revisions, future_revision,
    negative_revision, count_only, keys_only, filters, sorts, sort_without_order, unknown_sort, serializable,
    keys_of_any_bytes, keys_only_of_leased,
);

/// r/a and r/c once, r/b twice, r/d deleted and put again; values in the opposite order.
async fn fill(s: &mut Session) -> Result<()> {
    for (key, value) in [
        ("r/a", "4"),
        ("r/b", "3"),
        ("r/c", "2"),
        ("r/b", "33"),
        ("r/d", "1"),
    ] {
        s.put(put(key, value)).await?;
    }
    s.delete(delete("r/d", "")).await?;
    s.put(put("r/d", "11")).await?;
    Ok(())
}

async fn single_key(s: &mut Session) -> Result<()> {
    fill(s).await?;
    s.range(get("r/b")).await?;
    s.range(get("r/none")).await?;
    s.range(pb::RangeRequest {
        limit: 1,
        ..get("r/a")
    })
    .await?;
    Ok(())
}

async fn empty_key(s: &mut Session) -> Result<()> {
    s.range(get("")).await?;
    s.range(span("", "r/z")).await?;
    s.range(span("", "\0")).await?;
    Ok(())
}

async fn to_the_end(s: &mut Session) -> Result<()> {
    s.put(put("zz/1", "a")).await?;
    s.put(put("zz/2", "b")).await?;
    s.range(span("zz/1", "\0")).await?;
    s.range(span("zz/2", "\0")).await?;
    s.range(span("zz/3", "\0")).await?;
    Ok(())
}

async fn everything(s: &mut Session) -> Result<()> {
    s.range(pb::RangeRequest {
        count_only: true,
        ..span("\0", "\0")
    })
    .await?;
    s.range(pb::RangeRequest {
        limit: 2,
        ..span("\0", "\0")
    })
    .await?;
    Ok(())
}

async fn end_below_start(s: &mut Session) -> Result<()> {
    fill(s).await?;
    s.range(span("r/c", "r/a")).await?;
    s.range(span("r/c", "r/c")).await?;
    Ok(())
}

async fn limits(s: &mut Session) -> Result<()> {
    fill(s).await?;
    for limit in [-1, 0, 1, 3, 4, 5] {
        s.range(pb::RangeRequest {
            limit,
            ..span("r/", "r0")
        })
        .await?;
    }
    Ok(())
}

async fn revisions(s: &mut Session) -> Result<()> {
    fill(s).await?;
    for after in 0..=7 {
        let revision = s.base() + after;
        s.range(pb::RangeRequest {
            revision,
            ..span("r/", "r0")
        })
        .await?;
        s.range(pb::RangeRequest {
            revision,
            limit: 1,
            ..span("r/b", "r0")
        })
        .await?;
        s.range(pb::RangeRequest {
            revision,
            count_only: true,
            ..span("r/", "r0")
        })
        .await?;
    }
    Ok(())
}

async fn future_revision(s: &mut Session) -> Result<()> {
    let revision = s.base() + 1;
    s.range(pb::RangeRequest {
        revision,
        ..get("r/a")
    })
    .await?;
    s.range(pb::RangeRequest {
        revision: i64::MAX,
        ..get("r/a")
    })
    .await?;
    Ok(())
}

async fn negative_revision(s: &mut Session) -> Result<()> {
    fill(s).await?;
    s.range(pb::RangeRequest {
        revision: -5,
        ..get("r/a")
    })
    .await?;
    Ok(())
}

async fn count_only(s: &mut Session) -> Result<()> {
    fill(s).await?;
    s.range(pb::RangeRequest {
        count_only: true,
        ..get("r/a")
    })
    .await?;
    s.range(pb::RangeRequest {
        count_only: true,
        ..span("r/", "r0")
    })
    .await?;
    s.range(pb::RangeRequest {
        count_only: true,
        limit: 2,
        ..span("r/", "r0")
    })
    .await?;
    let min_mod_revision = s.base() + 4;
    s.range(pb::RangeRequest {
        count_only: true,
        min_mod_revision,
        ..span("r/", "r0")
    })
    .await?;
    Ok(())
}

async fn keys_only(s: &mut Session) -> Result<()> {
    fill(s).await?;
    s.range(pb::RangeRequest {
        keys_only: true,
        ..span("r/", "r0")
    })
    .await?;
    s.range(pb::RangeRequest {
        keys_only: true,
        count_only: true,
        ..span("r/", "r0")
    })
    .await?;
    let sort_target = SortTarget::Value as i32;
    s.range(pb::RangeRequest {
        keys_only: true,
        sort_target,
        ..span("r/", "r0")
    })
    .await?;
    Ok(())
}

async fn filters(s: &mut Session) -> Result<()> {
    fill(s).await?;
    let all = || span("r/", "r0");
    for after in 0..=8 {
        let at = s.base() + after;
        s.range(pb::RangeRequest {
            min_mod_revision: at,
            ..all()
        })
        .await?;
        s.range(pb::RangeRequest {
            max_mod_revision: at,
            ..all()
        })
        .await?;
        s.range(pb::RangeRequest {
            min_create_revision: at,
            limit: 1,
            ..all()
        })
        .await?;
        s.range(pb::RangeRequest {
            max_create_revision: at,
            limit: 2,
            ..all()
        })
        .await?;
    }
    let (min_mod_revision, max_mod_revision) = (s.base() + 3, s.base() + 4);
    s.range(pb::RangeRequest {
        min_mod_revision,
        max_mod_revision,
        ..all()
    })
    .await?;
    Ok(())
}

async fn sorts(s: &mut Session) -> Result<()> {
    fill(s).await?;
    for target in [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ] {
        for order in [SortOrder::Ascend, SortOrder::Descend] {
            let request = pb::RangeRequest {
                sort_target: target as i32,
                sort_order: order as i32,
                ..span("r/", "r0")
            };
            // Keys of one version have no order of their own.
            let limit = if target == SortTarget::Version { 0 } else { 2 };
            if target == SortTarget::Version && order == SortOrder::Descend {
                continue;
            }
            s.range(pb::RangeRequest { limit, ..request }).await?;
        }
    }
    Ok(())
}

async fn sort_without_order(s: &mut Session) -> Result<()> {
    fill(s).await?;
    let sort_target = SortTarget::Value as i32;
    s.range(pb::RangeRequest {
        sort_target,
        ..span("r/", "r0")
    })
    .await?;
    s.range(pb::RangeRequest {
        sort_target,
        limit: 1,
        ..span("r/", "r0")
    })
    .await?;
    Ok(())
}

async fn unknown_sort(s: &mut Session) -> Result<()> {
    s.range(pb::RangeRequest {
        sort_target: 5,
        ..span("r/", "r0")
    })
    .await?;
    s.range(pb::RangeRequest {
        sort_order: 3,
        ..span("r/", "r0")
    })
    .await?;
    s.range(pb::RangeRequest {
        sort_order: -1,
        ..span("r/", "r0")
    })
    .await?;
    Ok(())
}

async fn serializable(s: &mut Session) -> Result<()> {
    fill(s).await?;
    s.range(pb::RangeRequest {
        serializable: true,
        ..span("r/", "r0")
    })
    .await?;
    let revision = s.base() + 100;
    s.range(pb::RangeRequest {
        serializable: true,
        revision,
        ..get("r/a")
    })
    .await?;
    s.range(pb::RangeRequest {
        serializable: true,
        ..get("")
    })
    .await?;
    Ok(())
}

async fn keys_of_any_bytes(s: &mut Session) -> Result<()> {
    let keys: [&'static [u8]; 6] = [b"\0", b"\0\0", b"\0\x01", b"\x01", b"\xff", b"\xff\xff"];
    for key in keys {
        let value = key.into();
        s.put(pb::PutRequest {
            key: key.into(),
            value,
            ..Default::default()
        })
        .await?;
    }
    s.range(pb::RangeRequest {
        limit: 3,
        ..span("\0", "\0")
    })
    .await?;
    s.range(span("\0", "\0\x01")).await?;
    s.range(span("\0\0", "\x02")).await?;
    let key: &'static [u8] = b"\xfe";
    s.range(pb::RangeRequest {
        key: key.into(),
        range_end: "\0".into(),
        ..Default::default()
    })
    .await?;
    s.delete(delete("\0", "\x02")).await?;
    s.delete(pb::DeleteRangeRequest {
        key: key.into(),
        range_end: "\0".into(),
        prev_kv: true,
    })
    .await?;
    Ok(())
}

/// The value is left out, the lease is not.
async fn keys_only_of_leased(s: &mut Session) -> Result<()> {
    let lease = 4001;
    let request = pb::LeaseGrantRequest {
        id: lease,
        ttl: 600,
    };
    let answer = s.lease().lease_grant(request).await;
    s.record("grant", answer)?;
    s.put(pb::PutRequest {
        lease,
        ..put("kl", "x")
    })
    .await?;
    s.range(pb::RangeRequest {
        keys_only: true,
        ..get("kl")
    })
    .await?;
    let request = pb::LeaseRevokeRequest { id: lease };
    let answer = s.lease().lease_revoke(request).await;
    s.record("revoke", answer).map(drop)
}
