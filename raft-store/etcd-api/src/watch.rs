//! The Watch service: many watchers on one stream.
//!
//! Each watcher has a task that puts its responses into the stream's bounded queue; a client that does not read holds up
//! its own watchers only, and these read history from the store when it goes on.

use std::collections::HashMap;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::watch_request::RequestUnion;
use xebec_proto::etcdserverpb::watch_server::Watch;

use crate::front::Front;
use crate::watcher::{ProgressQuery, Target, start};

/// Responses of one stream that wait for the client to read.
const RESPONSE_QUEUE: usize = 16;
/// The id that answers for all watchers of a stream.
const ALL_WATCHERS: i64 = -1;
/// The id of a watcher that was never created.
pub(crate) const NO_WATCHER: i64 = -1;

type Responses = mpsc::Sender<Result<pb::WatchResponse, Status>>;

#[tonic::async_trait]
impl Watch for Front {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, receiver) = mpsc::channel(RESPONSE_QUEUE);
        let stream = WatchStream {
            front: self.clone(),
            responses,
            watchers: HashMap::new(),
            next_id: 0,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// A watcher's task; it ends when this is dropped.
struct Watcher {
    queries: mpsc::Sender<ProgressQuery>,
    task: tokio::task::JoinHandle<()>,
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
}

impl WatchStream {
    async fn run(mut self, mut requests: Streaming<pb::WatchRequest>) {
        let shutdown = self.front.shutdown.clone();
        loop {
            let request = tokio::select! {
                request = requests.next() => request,
                // The client has gone away; its half of the stream may still be open.
                () = self.responses.closed() => return,
                () = shutdown.cancelled() => {
                    let _ = self.responses.send(Err(Status::unavailable("etcdserver: server stopped"))).await;
                    return;
                }
            };
            let Some(Ok(request)) = request else { return };
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
        self.responses.send(Ok(response)).await.ok()
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

    async fn create(&mut self, request: pb::WatchCreateRequest) -> Option<()> {
        self.watchers
            .retain(|_, watcher| !watcher.task.is_finished());
        let id = match request.watch_id {
            0 => {
                while self.watchers.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            id if self.watchers.contains_key(&id) => {
                return self
                    .refuse("mvcc: duplicate watch ID provided on the WatchStream")
                    .await;
            }
            id => id,
        };
        if request.start_revision < 0 {
            return self
                .refuse("mvcc: required revision has been compacted")
                .await;
        }
        let target = match Target::new(&self.front, id, request) {
            Ok(target) => target,
            Err(error) => return self.refuse(&error.to_string()).await,
        };
        let created = pb::WatchResponse {
            header: self.front.current_header(),
            watch_id: id,
            created: true,
            ..Default::default()
        };
        self.send(created).await?;
        let (queries, receiver) = mpsc::channel(1);
        let task = tokio::spawn(start(
            self.front.clone(),
            target,
            receiver,
            self.responses.clone(),
        ));
        self.watchers.insert(id, Watcher { queries, task });
        Some(())
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
        let mut reached = i64::MAX;
        for watcher in self.watchers.values() {
            let (sender, answer) = oneshot::channel();
            if watcher.queries.send(sender).await.is_err() {
                continue;
            }
            match answer.await {
                Ok(Some(revision)) => reached = reached.min(revision),
                Ok(None) => return Some(()),
                // The watcher was cancelled by the store meanwhile.
                Err(_) => {}
            }
        }
        if reached == i64::MAX {
            reached = self.front.store.revision();
        }
        let header = self.front.header(reached);
        self.send(pb::WatchResponse {
            header,
            watch_id: ALL_WATCHERS,
            ..Default::default()
        })
        .await
    }
}
