//! Watches: where they start, what they deliver, how they end.

use anyhow::{Result, ensure};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::watch_create_request::FilterType;

use super::{delete, op, put, then, watch_of};
use crate::session::Session;
use crate::watching::Watching;

crate::cases!("watch":
    from_now, from_the_past, from_the_future, negative_start, empty_range, empty_key, ids, duplicate_id, cancel,
    cancel_unknown, filters, both_filters, unknown_filter, previous, previous_in_history, revisions_stay_whole, many_on_one_stream, fragments,
    fragment_of_one_event, an_empty_request, ranges, no_events_for_nothing, lease_end, negative_id, id_after_cancel,
    a_client_that_reads_late,
);

async fn from_now(s: &mut Session) -> Result<()> {
    s.put(put("fn", "before")).await?;
    let mut watch = Watching::open(s, watch_of("fn", "")).await?;
    watch.next(s).await?;
    s.put(put("fn", "1")).await?;
    s.put(put("fm", "1")).await?;
    s.delete(delete("fn", "")).await?;
    s.put(put("fn", "2")).await?;
    watch.events(s, 3).await
}

async fn from_the_past(s: &mut Session) -> Result<()> {
    s.put(put("fp", "1")).await?;
    s.put(put("fp", "2")).await?;
    s.delete(delete("fp", "")).await?;
    for after in 1..=3 {
        let start_revision = s.base() + after;
        let mut watch = Watching::open(
            s,
            pb::WatchCreateRequest {
                start_revision,
                ..watch_of("fp", "")
            },
        )
        .await?;
        watch.next(s).await?;
        watch.events(s, 4 - after as usize).await?;
    }
    Ok(())
}

async fn from_the_future(s: &mut Session) -> Result<()> {
    let start_revision = s.base() + 3;
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            start_revision,
            ..watch_of("ff", "")
        },
    )
    .await?;
    watch.next(s).await?;
    for value in ["1", "2", "3", "4"] {
        s.put(put("ff", value)).await?;
    }
    watch.events(s, 2).await
}

async fn negative_start(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            start_revision: -1,
            ..watch_of("a", "")
        },
    )
    .await?;
    watch.next(s).await?;
    watch.create(watch_of("nst", "")).await?;
    watch.next(s).await?;
    Ok(())
}

async fn empty_range(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("b", "a")).await?;
    watch.next(s).await?;
    watch.create(watch_of("b", "b")).await?;
    watch.next(s).await?;
    watch.create(watch_of("b", "c")).await?;
    watch.next(s).await?;
    Ok(())
}

async fn empty_key(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("", "")).await?;
    watch.next(s).await?;
    watch.create(watch_of("", "\0")).await?;
    watch.next(s).await?;
    s.put(put("\0", "1")).await?;
    let mut seen = vec![watch.response().await?, watch.response().await?];
    seen.sort_by_key(|response| response.watch_id);
    for response in seen {
        s.message("watch", response)?;
    }
    s.put(put("ek", "1")).await?;
    watch.events(s, 1).await?;
    s.delete(delete("\0", "")).await?;
    Ok(())
}

async fn ids(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("id", "")).await?;
    watch.next(s).await?;
    for watch_id in [0, 5, 2, 0, 0, 0, i64::MAX, 0] {
        watch
            .create(pb::WatchCreateRequest {
                watch_id,
                ..watch_of("id", "")
            })
            .await?;
        watch.next(s).await?;
    }
    Ok(())
}

async fn duplicate_id(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            watch_id: 7,
            ..watch_of("di", "")
        },
    )
    .await?;
    watch.next(s).await?;
    watch
        .create(pb::WatchCreateRequest {
            watch_id: 7,
            ..watch_of("dj", "")
        })
        .await?;
    watch.next(s).await?;
    s.put(put("dj", "1")).await?;
    s.put(put("di", "1")).await?;
    watch.events(s, 1).await
}

async fn negative_id(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            watch_id: -9,
            ..watch_of("ni", "")
        },
    )
    .await?;
    watch.next(s).await?;
    s.put(put("ni", "1")).await?;
    watch.events(s, 1).await
}

async fn cancel(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("cc", "")).await?;
    watch.next(s).await?;
    watch.create(watch_of("cd", "")).await?;
    watch.next(s).await?;
    watch.cancel(0).await?;
    watch.next(s).await?;
    s.put(put("cc", "1")).await?;
    s.put(put("cd", "1")).await?;
    watch.events(s, 1).await
}

async fn id_after_cancel(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("ic", "")).await?;
    watch.next(s).await?;
    watch.cancel(0).await?;
    watch.next(s).await?;
    watch.create(watch_of("ic", "")).await?;
    watch.next(s).await?;
    watch
        .create(pb::WatchCreateRequest {
            watch_id: 9,
            ..watch_of("ic", "")
        })
        .await?;
    watch.next(s).await?;
    watch.cancel(9).await?;
    watch.next(s).await?;
    watch
        .create(pb::WatchCreateRequest {
            watch_id: 9,
            ..watch_of("ic", "")
        })
        .await?;
    watch.next(s).await?;
    s.put(put("ic", "1")).await?;
    let mut seen = vec![watch.response().await?, watch.response().await?];
    seen.sort_by_key(|response| response.watch_id);
    for response in seen {
        s.message("watch", response)?;
    }
    Ok(())
}

async fn cancel_unknown(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("cu", "")).await?;
    watch.next(s).await?;
    watch.cancel(42).await?;
    // Whatever the cancel was answered with would come first.
    watch.create(watch_of("cu", "")).await?;
    watch.next(s).await?;
    Ok(())
}

async fn filtered(s: &mut Session, filters: Vec<i32>, end: &'static str) -> Result<()> {
    let request = pb::WatchCreateRequest {
        filters,
        ..watch_of("fi/", "fi0")
    };
    let mut watch = Watching::open(s, request).await?;
    watch.next(s).await?;
    s.put(put("fi/1", "1")).await?;
    s.delete(delete("fi/1", "")).await?;
    s.txn(then(vec![op::put("fi/2", "2"), op::delete("fi/1", "")]))
        .await?;
    s.txn(then(vec![op::put("fi/3", "2"), op::delete("fi/2", "")]))
        .await?;
    if !end.is_empty() {
        return watch.events(s, if end == "puts" { 3 } else { 2 }).await;
    }
    watch.cancel(0).await?;
    watch.next(s).await?;
    Ok(())
}

async fn filters(s: &mut Session) -> Result<()> {
    filtered(s, vec![FilterType::Noput as i32], "deletes").await?;
    filtered(s, vec![FilterType::Nodelete as i32], "puts").await
}

async fn both_filters(s: &mut Session) -> Result<()> {
    filtered(
        s,
        vec![FilterType::Noput as i32, FilterType::Nodelete as i32],
        "",
    )
    .await
}

async fn unknown_filter(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            filters: vec![7],
            ..watch_of("uf", "")
        },
    )
    .await?;
    watch.next(s).await?;
    s.put(put("uf", "1")).await?;
    watch.events(s, 1).await
}

async fn previous(s: &mut Session) -> Result<()> {
    s.put(put("pv", "0")).await?;
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            prev_kv: true,
            ..watch_of("pv", "")
        },
    )
    .await?;
    watch.next(s).await?;
    s.put(put("pv", "1")).await?;
    s.delete(delete("pv", "")).await?;
    s.put(put("pv", "2")).await?;
    s.put(put("pv", "3")).await?;
    watch.events(s, 4).await
}

async fn previous_in_history(s: &mut Session) -> Result<()> {
    s.put(put("ph", "0")).await?;
    s.put(put("ph", "1")).await?;
    s.delete(delete("ph", "")).await?;
    s.put(put("ph", "2")).await?;
    let start_revision = s.base() + 1;
    let request = pb::WatchCreateRequest {
        prev_kv: true,
        start_revision,
        ..watch_of("ph", "")
    };
    let mut watch = Watching::open(s, request).await?;
    watch.next(s).await?;
    watch.events(s, 4).await
}

async fn revisions_stay_whole(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("rw/", "rw0")).await?;
    watch.next(s).await?;
    s.txn(then(vec![
        op::put("rw/2", "1"),
        op::put("rw/1", "1"),
        op::put("rx", "1"),
        op::put("rw/3", "1"),
    ]))
    .await?;
    watch.next(s).await?;
    s.txn(then(vec![op::delete("rw/", "rw0"), op::put("rx", "2")]))
        .await?;
    watch.next(s).await?;
    Ok(())
}

async fn many_on_one_stream(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("mo", "")).await?;
    watch.next(s).await?;
    for _ in 0..20 {
        watch.create(watch_of("mo", "mp")).await?;
        watch.next(s).await?;
    }
    s.put(put("mo", "1")).await?;
    let mut seen = Vec::new();
    for _ in 0..21 {
        seen.push(watch.response().await?);
    }
    seen.sort_by_key(|response| response.watch_id);
    for response in seen {
        s.message("watch", response)?;
    }
    Ok(())
}

/// Three values of 600 KB in one revision are more than one request may hold.
async fn fragments(s: &mut Session) -> Result<()> {
    let large = |key: &'static str| {
        op::put_with(pb::PutRequest {
            key: key.into(),
            value: vec![b'x'; 480_000].into(),
            ..Default::default()
        })
    };
    let request = || then(vec![large("fr/1"), large("fr/2"), large("fr/3")]);
    for fragment in [false, true] {
        let request_watch = pb::WatchCreateRequest {
            fragment,
            prev_kv: true,
            ..watch_of("fr/", "fr0")
        };
        let mut watch = Watching::open(s, request_watch).await?;
        watch.next(s).await?;
        s.kv().txn(request()).await?;
        s.kv().txn(request()).await?;
        let (mut events, mut shape) = (0, Vec::new());
        while events < 6 {
            let response = watch.response().await?;
            events += response.events.len();
            shape.push((response.events.len(), response.fragment));
        }
        s.note(format!("fragment {fragment}: {shape:?}"));
    }
    s.delete(delete("fr/", "fr0")).await?;
    Ok(())
}

async fn fragment_of_one_event(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(
        s,
        pb::WatchCreateRequest {
            fragment: true,
            ..watch_of("fo", "")
        },
    )
    .await?;
    watch.next(s).await?;
    s.put(put("fo", "1")).await?;
    watch.next(s).await?;
    Ok(())
}

async fn an_empty_request(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("er", "")).await?;
    watch.next(s).await?;
    watch.ask_nothing().await?;
    watch.create(watch_of("er", "")).await?;
    watch.next(s).await?;
    Ok(())
}

async fn ranges(s: &mut Session) -> Result<()> {
    for (key, end, seen) in [("ra/b", "ra/d", 3), ("ra/b", "\0", 4), ("ra/", "ra0", 5)] {
        let mut watch = Watching::open(s, watch_of(key, end)).await?;
        watch.next(s).await?;
        for key in ["ra/a", "ra/b", "ra/c", "ra/d", "ra/c"] {
            s.put(put(key, "1")).await?;
        }
        watch.events(s, seen).await?;
    }
    Ok(())
}

async fn no_events_for_nothing(s: &mut Session) -> Result<()> {
    let mut watch = Watching::open(s, watch_of("nn", "no")).await?;
    watch.next(s).await?;
    s.delete(delete("nn", "no")).await?;
    s.txn(then(vec![op::delete("nn", "")])).await?;
    s.put(put("nn", "1")).await?;
    watch.next(s).await?;
    Ok(())
}

async fn lease_end(s: &mut Session) -> Result<()> {
    let answer = s
        .lease()
        .lease_grant(pb::LeaseGrantRequest { id: 7001, ttl: 600 })
        .await;
    s.record("grant", answer)?;
    for key in ["le/3", "le/1", "le/2"] {
        s.put(pb::PutRequest {
            lease: 7001,
            ..put(key, "1")
        })
        .await?;
    }
    let mut watch = Watching::open(s, watch_of("le/", "le0")).await?;
    watch.next(s).await?;
    let answer = s
        .lease()
        .lease_revoke(pb::LeaseRevokeRequest { id: 7001 })
        .await;
    s.record("revoke", answer)?;
    watch.next(s).await?;
    Ok(())
}

/// More than all buffers on the way hold is written before the client reads: it is told all of it, in order.
async fn a_client_that_reads_late(s: &mut Session) -> Result<()> {
    const WRITES: i64 = 400;
    let mut watch = Watching::open(s, watch_of("rl", "")).await?;
    watch.next(s).await?;
    for _ in 0..WRITES {
        let value = vec![b'x'; 64 * 1024];
        let request = pb::PutRequest {
            value: value.into(),
            ..put("rl", "")
        };
        s.kv().put(request).await?;
    }
    let mut next = s.base() + 1;
    while next <= s.base() + WRITES {
        for event in watch.response().await?.events {
            let kv = event.kv.unwrap_or_default();
            ensure!(
                kv.mod_revision == next,
                "{} follows {next}",
                kv.mod_revision
            );
            next += 1;
        }
    }
    s.note("all were told");
    s.delete(delete("rl", "")).await?;
    Ok(())
}
