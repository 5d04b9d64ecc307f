//! One watcher: the store's batches as etcd's responses.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use raft_store as store;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::watch_create_request::FilterType;

use crate::front::Front;
use crate::splice::{WatchAnswer, event_len};
use crate::watch::Responses;

/// Idle watchers are not told the revision more often than this, as in etcd.
const LEAST_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// When a watcher that stays idle is to be told the revision: not all at once, as in etcd.
fn next_progress(front: &Front, id: i64) -> Instant {
    let interval = front.options.watch_progress_notify_interval;
    let interval = interval.max(LEAST_PROGRESS_INTERVAL);
    // Some later, by up to a tenth.
    Instant::now() + interval + interval / 100 * (id.rem_euclid(10) as u32)
}

/// How far a watcher is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    /// Everything up to here was delivered.
    pub revision: i64,
    /// The newest revision that the client was told.
    pub told: i64,
}

/// What a stream wants of its watcher, to answer for all of them in order.
pub(crate) enum Query {
    /// How far it is; none while it has not caught up. It delivers nothing from then on.
    Hold(oneshot::Sender<Option<Reached>>),
    /// It goes on.
    Resume,
}

/// What a client wants to watch.
pub(crate) struct Target {
    /// To be filled in once it is known that there will be a watcher.
    pub id: i64,
    watcher: Result<store::Watcher, i64>,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
}

impl Target {
    /// # Errors
    /// The range is empty. (A start before the floor is answered later, as etcd does.)
    pub(crate) fn new(
        front: &Front,
        request: pb::WatchCreateRequest,
    ) -> Result<Self, store::Error> {
        // An empty key means from the first key on.
        let key = if request.key.is_empty() {
            Bytes::from_static(b"\0")
        } else {
            request.key
        };
        let filters = |kind: FilterType| request.filters.contains(&(kind as i32));
        let started = front.store.watch(store::WatchRequest {
            range: store::KeyRange::from_etcd(key, request.range_end),
            start_revision: request.start_revision,
            prev_kv: request.prev_kv,
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            progress: false,
        });
        let watcher = match started {
            Ok(watcher) => Ok(watcher),
            Err(store::Error::Compacted { compact_revision }) => Err(compact_revision),
            Err(error) => return Err(error),
        };
        Ok(Self {
            id: 0,
            watcher,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
        })
    }
}

/// Runs until the client goes away or the store ends the watcher.
pub(crate) async fn start(
    front: Front,
    target: Target,
    mut queries: mpsc::Receiver<Query>,
    responses: Responses,
) {
    let Target {
        id,
        watcher,
        prev_kv,
        fragment,
        progress_notify,
    } = target;
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(compacted) => return drop(responses.send(Ok(compaction(&front, id, compacted))).await),
    };
    let mut idle_until = next_progress(&front, id);
    let (mut held, mut told) = (false, 0);
    loop {
        let batch = tokio::select! {
            batch = watcher.next(), if !held => batch,
            Some(query) = queries.recv() => {
                held = match query {
                    Query::Hold(answer) => {
                        let _ = answer.send(reached(&watcher, told));
                        true
                    }
                    Query::Resume => false,
                };
                continue;
            }
            () = sleep_until(idle_until), if progress_notify && !held => {
                idle_until = next_progress(&front, id);
                let Some(revision) = watcher.progress() else { continue };
                told = revision;
                let header = front.header(revision);
                let response = pb::WatchResponse { header, watch_id: id, ..Default::default() };
                if responses.send(Ok(response.into())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        idle_until = next_progress(&front, id);
        match batch {
            Ok(batch) if batch.events.is_empty() => {}
            Ok(batch) => {
                told = batch.revision;
                for response in answers(&front, id, batch, prev_kv, fragment) {
                    if responses.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
            Err(store::WatchError::Compacted { compact_revision }) => {
                return drop(
                    responses
                        .send(Ok(compaction(&front, id, compact_revision)))
                        .await,
                );
            }
            Err(error) => {
                let response = pb::WatchResponse {
                    header: front.current_header(),
                    watch_id: id,
                    canceled: true,
                    cancel_reason: error.to_string(),
                    ..Default::default()
                };
                return drop(responses.send(Ok(response.into())).await);
            }
        }
    }
}

fn reached(watcher: &store::Watcher, told: i64) -> Option<Reached> {
    let revision = watcher.progress()?;
    Some(Reached { revision, told })
}

/// What a client gets whose start lies before the floor of history: no revision in the header, no reason in words.
fn compaction(front: &Front, id: i64, compact_revision: i64) -> WatchAnswer {
    pb::WatchResponse {
        header: front.header(0),
        watch_id: id,
        canceled: true,
        compact_revision,
        ..Default::default()
    }
    .into()
}

/// One answer, or several for a client that takes fragments.
fn answers(
    front: &Front,
    id: i64,
    batch: store::WatchBatch,
    prev_kv: bool,
    fragment: bool,
) -> Vec<WatchAnswer> {
    let head = pb::WatchResponse {
        header: front.header(batch.revision),
        watch_id: id,
        ..Default::default()
    };
    let answer = |events, fragment| WatchAnswer {
        head: pb::WatchResponse {
            fragment,
            ..head.clone()
        },
        events,
        prev_kv,
    };
    if !fragment {
        return vec![answer(batch.events, false)];
    }
    let limit = front.max_message_bytes();
    let (mut parts, mut events, mut size) = (Vec::new(), Vec::new(), head.encoded_len());
    for event in batch.events {
        let bytes = event_len(&event, prev_kv);
        if !events.is_empty() && size + bytes >= limit {
            parts.push(answer(std::mem::take(&mut events), true));
            size = head.encoded_len();
        }
        size += bytes;
        events.push(event);
    }
    parts.push(answer(events, false));
    parts
}
