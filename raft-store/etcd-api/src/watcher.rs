//! One watcher: the store's batches as etcd's responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use raft_store as store;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::watch_create_request::FilterType;
use xebec_proto::mvccpb;

use crate::convert::key_value;
use crate::front::Front;

/// How often an idle watcher that asked for it is told the revision, as in etcd.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
/// A response above this is split where the client can put it together again.
const FRAGMENT_BYTES: usize = store::limits::MAX_REQUEST_BYTES;

/// Asks how far the watcher has delivered everything; none while it has not caught up.
pub(crate) type ProgressQuery = oneshot::Sender<Option<i64>>;

/// What a client wants to watch.
pub(crate) struct Target {
    id: i64,
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
        id: i64,
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
            id,
            watcher,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
        })
    }
}

type Responses = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// Runs until the client goes away or the store ends the watcher.
pub(crate) async fn start(
    front: Front,
    target: Target,
    mut queries: mpsc::Receiver<ProgressQuery>,
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
        Err(compacted) => return drop(responses.send(Ok(compaction(id, compacted))).await),
    };
    let mut idle_until = Instant::now() + PROGRESS_INTERVAL;
    loop {
        let batch = tokio::select! {
            batch = watcher.next() => batch,
            Some(query) = queries.recv() => {
                let _ = query.send(watcher.progress());
                continue;
            }
            () = sleep_until(idle_until), if progress_notify => {
                idle_until = Instant::now() + PROGRESS_INTERVAL;
                let Some(revision) = watcher.progress() else { continue };
                let header = front.header(revision);
                let response = pb::WatchResponse { header, watch_id: id, ..Default::default() };
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        idle_until = Instant::now() + PROGRESS_INTERVAL;
        match batch {
            Ok(batch) if batch.events.is_empty() => {}
            Ok(batch) => {
                for response in self::responses(&front, id, &batch, prev_kv, fragment) {
                    if responses.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
            Err(store::WatchError::Compacted { compact_revision }) => {
                return drop(responses.send(Ok(compaction(id, compact_revision))).await);
            }
            Err(error) => {
                let response = pb::WatchResponse {
                    header: front.current_header(),
                    watch_id: id,
                    canceled: true,
                    cancel_reason: error.to_string(),
                    ..Default::default()
                };
                return drop(responses.send(Ok(response)).await);
            }
        }
    }
}

/// What a client gets whose start lies before the floor of history: no revision in the header, no reason in words.
fn compaction(id: i64, compact_revision: i64) -> pb::WatchResponse {
    let header = Some(pb::ResponseHeader::default());
    pb::WatchResponse {
        header,
        watch_id: id,
        canceled: true,
        compact_revision,
        ..Default::default()
    }
}

fn event(event: &Arc<store::Event>, prev_kv: bool) -> mvccpb::Event {
    let kind = match event.kind {
        store::EventKind::Put => mvccpb::event::EventType::Put,
        store::EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind as i32,
        kv: Some(key_value(event.kv.clone())),
        prev_kv: event.prev_kv.clone().filter(|_| prev_kv).map(key_value),
    }
}

/// One response, or several for a client that takes fragments.
fn responses(
    front: &Front,
    id: i64,
    batch: &store::WatchBatch,
    prev_kv: bool,
    fragment: bool,
) -> Vec<pb::WatchResponse> {
    let response = |events| pb::WatchResponse {
        header: front.header(batch.revision),
        watch_id: id,
        events,
        ..Default::default()
    };
    let events = batch.events.iter().map(|e| event(e, prev_kv));
    if !fragment {
        return vec![response(events.collect())];
    }
    let mut parts: Vec<Vec<mvccpb::Event>> = vec![Vec::new()];
    let mut size = 0;
    for event in events {
        let bytes = event.encoded_len();
        if size > 0 && size + bytes > FRAGMENT_BYTES {
            parts.push(Vec::new());
            size = 0;
        }
        size += bytes;
        parts.last_mut().expect("never empty").push(event);
    }
    let last = parts.len() - 1;
    let number = |(number, events)| pb::WatchResponse {
        fragment: number < last,
        ..response(events)
    };
    parts.into_iter().enumerate().map(number).collect()
}
