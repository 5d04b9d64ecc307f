//! Compaction and what is left after it. Each case compacts only what it wrote itself, and all before.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;

use super::{delete, get, put, watch_of};
use crate::session::Session;
use crate::watching::Watching;

crate::cases!("compaction":
    reads_around_the_floor, bounds, physical, keys_survive, watch_below_the_floor, watch_at_the_floor, tombstone_at_the_floor,
    transactions_below_the_floor, hash_below_the_floor, previous_is_compacted, compacts_to_the_newest,
);

async fn history(s: &mut Session) -> Result<()> {
    for value in ["1", "2", "3"] {
        s.put(put("co", value)).await?;
    }
    s.delete(delete("co", "")).await?;
    s.put(put("co", "5")).await?;
    Ok(())
}

async fn reads_around_the_floor(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(3, false).await?;
    for after in 0..=5 {
        let revision = s.base() + after;
        s.range(pb::RangeRequest {
            revision,
            ..get("co")
        })
        .await?;
        s.range(pb::RangeRequest {
            revision,
            count_only: true,
            ..get("co")
        })
        .await?;
    }
    Ok(())
}

async fn bounds(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(6, false).await?;
    s.compact(2, false).await?;
    s.compact(2, false).await?;
    s.compact(1, false).await?;
    let answer = s
        .kv()
        .compact(pb::CompactionRequest {
            revision: -1,
            physical: false,
        })
        .await;
    s.record("compact", answer)?;
    let answer = s.kv().compact(pb::CompactionRequest::default()).await;
    s.record("compact", answer).map(drop)
}

async fn physical(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(5, true).await?;
    s.range(get("co")).await?;
    s.compact(5, true).await
}

async fn keys_survive(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(5, true).await?;
    s.range(get("co")).await?;
    s.delete(delete("co", "")).await?;
    s.compact(6, true).await?;
    s.range(get("co")).await?;
    s.put(put("co", "again")).await?;
    s.range(get("co")).await?;
    Ok(())
}

async fn watch_below_the_floor(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(3, true).await?;
    let start_revision = s.base() + 1;
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            start_revision,
            ..watch_of("co", "")
        },
    )
    .await?;
    watch.next(s).await?;
    watch.next(s).await?;
    // The stream goes on, and so does the count of its watchers.
    watch.create(watch_of("co", "")).await?;
    watch.next(s).await?;
    s.put(put("co", "6")).await?;
    watch.events(s, 1).await
}

async fn watch_at_the_floor(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(2, true).await?;
    for after in [2, 3] {
        let start_revision = s.base() + after;
        let mut watch = Watching::open(
            s,
            pb::WatchCreateRequest {
                start_revision,
                ..watch_of("co", "")
            },
        )
        .await?;
        watch.next(s).await?;
        watch.events(s, 6 - after as usize).await?;
    }
    Ok(())
}

async fn tombstone_at_the_floor(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(4, true).await?;
    let start_revision = s.base() + 4;
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            start_revision,
            ..watch_of("co", "")
        },
    )
    .await?;
    watch.next(s).await?;
    s.put(put("co", "last")).await?;
    watch.events_until(s, "last").await
}

async fn transactions_below_the_floor(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(3, false).await?;
    let revision = s.base() + 2;
    let past = super::op::range(pb::RangeRequest {
        revision,
        ..get("co")
    });
    s.txn(super::then(vec![past.clone()])).await?;
    s.txn(super::then(vec![super::op::put("cp", "1"), past]))
        .await?;
    s.range(get("cp")).await?;
    Ok(())
}

async fn hash_below_the_floor(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(3, true).await?;
    for after in [2, 3, 4] {
        let revision = s.base() + after;
        let answer = s
            .maintenance()
            .hash_kv(pb::HashKvRequest { revision })
            .await;
        let answer = answer.map(|answer| {
            let mut answer = answer.into_inner();
            (answer.hash, answer.hash_revision) = (0, 0);
            tonic::Response::new(answer)
        });
        s.record("hash", answer)?;
    }
    Ok(())
}

async fn previous_is_compacted(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(2, true).await?;
    let start_revision = s.base() + 2;
    let request = pb::WatchCreateRequest {
        start_revision,
        prev_kv: true,
        ..watch_of("co", "")
    };
    let mut watch = Watching::open(s, request).await?;
    watch.next(s).await?;
    watch.events(s, 4).await
}

async fn compacts_to_the_newest(s: &mut Session) -> Result<()> {
    history(s).await?;
    s.compact(5, true).await?;
    s.compact(5, false).await?;
    s.compact(6, false).await?;
    let mut watch = Watching::open(s, watch_of("co", "")).await?;
    watch.next(s).await?;
    s.put(put("co", "6")).await?;
    watch.events(s, 1).await
}
