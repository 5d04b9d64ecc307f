//! The Watch service: many watchers on one stream.
//!
//! Each watcher has a task that puts its responses into the stream's bounded queue; a client that does not read holds up
//! its own watchers only, and these read history from the store when it goes on.

use std::collections::HashMap;

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::watch_request::RequestUnion;

use crate::front::Front;
use crate::metrics::OpenStream;
use crate::splice::WatchAnswer;
use crate::watcher::{Query, Reached, Target, start};

/// Responses of one stream that wait for the client to read.
const RESPONSE_QUEUE: usize = 16;
/// The id that answers for all watchers of a stream.
const ALL_WATCHERS: i64 = -1;
/// The id of a watcher that was never created.
pub(crate) const NO_WATCHER: i64 = -1;

/// Where the answers of a stream go.
pub(crate) type Responses = mpsc::Sender<Result<WatchAnswer, Status>>;

impl Front {
    /// Serves the watchers of one stream until the client goes away.
    pub(crate) fn watch_stream<S>(
        &self,
        requests: S,
    ) -> impl Stream<Item = Result<WatchAnswer, Status>> + Send + use<S>
    where
        S: Stream<Item = Result<pb::WatchRequest, Status>> + Send + Unpin + 'static,
    {
        let (responses, receiver) = mpsc::channel(RESPONSE_QUEUE);
        let stream = WatchStream {
            front: self.clone(),
            responses,
            watchers: HashMap::new(),
            next_id: 0,
            _open: self.metrics.watch_stream(),
        };
        tokio::spawn(stream.run(requests));
        ReceiverStream::new(receiver)
    }
}

/// A watcher's task; it ends when this is dropped.
struct Watcher {
    queries: mpsc::Sender<Query>,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    /// Has it deliver nothing more, and say how far it is; none if it has ended.
    async fn hold(&self) -> Option<Option<Reached>> {
        let (sender, answer) = oneshot::channel();
        self.queries.send(Query::Hold(sender)).await.ok()?;
        answer.await.ok()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct WatchStream {
    front: Front,
    responses: Responses,
    watchers: HashMap<i64, Watcher>,
    next_id: i64,
    _open: OpenStream,
}

impl WatchStream {
    async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<pb::WatchRequest, Status>> + Unpin,
    ) {
        let front = self.front.clone();
        let mut asks = true;
        loop {
            let request = tokio::select! {
                request = requests.next(), if asks => request,
                // The client has gone away; its half of the stream may still be open.
                () = self.responses.closed() => return,
                () = front.shutdown.cancelled() => {
                    let stopped = Status::unavailable("etcdserver: server stopped");
                    return drop(self.responses.send(Err(stopped)).await);
                }
            };
            let request = match request {
                Some(Ok(request)) => request,
                Some(Err(_)) => return,
                // It asks no more and goes on listening.
                None => {
                    asks = false;
                    continue;
                }
            };
            let sent = match request.request_union {
                Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
                Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id).await,
                Some(RequestUnion::ProgressRequest(_)) => self.progress().await,
                None => Some(()),
            };
            if sent.is_none() {
                return;
            }
        }
    }

    /// None when the client is gone.
    async fn send(&self, response: pb::WatchResponse) -> Option<()> {
        self.responses.send(Ok(response.into())).await.ok()
    }

    async fn refuse(&self, reason: &str) -> Option<()> {
        let response = pb::WatchResponse {
            header: self.front.current_header(),
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        };
        self.send(response).await
    }

    /// Starts a watcher, or says why not.
    async fn create(&mut self, request: pb::WatchCreateRequest) -> Option<()> {
        self.watchers
            .retain(|_, watcher| !watcher.task.is_finished());
        if self.watchers.len() >= self.front.options.max_watchers_per_stream {
            self.front.metrics.watcher_refused();
            return self
                .refuse("etcdserver: too many watchers on one stream")
                .await;
        }
        let Ok(place) = self.front.watchers.clone().try_acquire_owned() else {
            self.front.metrics.watcher_refused();
            return self
                .refuse("etcdserver: too many watchers on this member")
                .await;
        };
        let wanted = request.watch_id;
        if wanted != 0 && self.watchers.contains_key(&wanted) {
            return self
                .refuse("mvcc: duplicate watch ID provided on the WatchStream")
                .await;
        }
        if request.start_revision < 0 {
            return self
                .refuse("etcdserver: mvcc: required revision has been compacted")
                .await;
        }
        let mut target = match Target::new(&self.front, request) {
            Ok(target) => target,
            Err(error) => return self.refuse(&error.to_string()).await,
        };
        let id = if wanted == 0 { self.free_id() } else { wanted };
        target.id = id;
        let created = pb::WatchResponse {
            header: self.front.current_header(),
            watch_id: id,
            created: true,
            ..Default::default()
        };
        self.send(created).await?;
        let (queries, receiver) = mpsc::channel(1);
        let watcher = start(self.front.clone(), target, receiver, self.responses.clone());
        let task = tokio::spawn(async move {
            // Given back however the watcher ends.
            let _place = place;
            watcher.await;
        });
        self.watchers.insert(id, Watcher { queries, task });
        Some(())
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    async fn cancel(&mut self, id: i64) -> Option<()> {
        let Some(watcher) = self.watchers.remove(&id) else {
            return Some(());
        };
        drop(watcher);
        let header = self.front.current_header();
        self.send(pb::WatchResponse {
            header,
            watch_id: id,
            canceled: true,
            ..Default::default()
        })
        .await
    }

    /// One answer for all watchers, only if each of them has delivered all that there is; otherwise none.
    async fn progress(&mut self) -> Option<()> {
        // What was acknowledged before the question is in the answer: a client may compare the two.
        let asked_at = self.front.store.revision();
        let mut applied = self.front.store.applied();
        // It fails only when the store ends, and then so does the stream.
        let _ = applied.wait_for(|revision| *revision >= asked_at).await;
        // Nothing is delivered from here on, so that what is said of all fits in with what each was told.
        let reached = self.reached().await;
        let sent = match reached {
            Some(revision) => {
                let header = self.front.header(revision);
                self.send(pb::WatchResponse {
                    header,
                    watch_id: ALL_WATCHERS,
                    ..Default::default()
                })
                .await
            }
            None => Some(()),
        };
        for watcher in self.watchers.values() {
            // One that has ended needs it no more.
            let _ = watcher.queries.send(Query::Resume).await;
        }
        sent
    }

    /// Holds all watchers; the revision up to which all have delivered everything, which is no older than any that one of
    /// them was told. None while one has not caught up.
    async fn reached(&self) -> Option<i64> {
        let mut all = HashMap::new();
        for (id, watcher) in &self.watchers {
            // It was cancelled by the store meanwhile, or says that it has not caught up.
            if let Some(reached) = watcher.hold().await {
                all.insert(*id, reached?);
            }
        }
        let told = all.values().map(|reached| reached.told).max().unwrap_or(0);
        // Those that were held before another was told something newer: nothing is missing for them, or they are behind.
        for (id, reached) in all
            .iter_mut()
            .filter(|(_, reached)| reached.revision < told)
        {
            if let Some(again) = self.watchers[id].hold().await {
                *reached = again?;
            }
        }
        let least = all.values().map(|reached| reached.revision).min();
        match least {
            Some(revision) => (revision >= told).then_some(revision),
            None => Some(self.front.store.revision()),
        }
    }
}
