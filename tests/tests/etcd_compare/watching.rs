//! A watch stream of a case: what it is told is recorded; batches are joined, since how they are cut is a matter of time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status, Streaming};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::watch_request::RequestUnion;

use crate::session::Session;

/// How long an answer may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

pub struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Watching {
    /// Opens a stream with its first request: a server may not answer before it.
    pub async fn open(session: &Session, first: pb::WatchCreateRequest) -> Result<Self> {
        Self::open_with(session, first, |_| {}).await
    }

    /// The same for a client that wants no stream without a leader.
    pub async fn open_led(session: &Session, first: pb::WatchCreateRequest) -> Result<Self> {
        let wants_leader = |metadata: &mut MetadataMap| {
            metadata.insert("hasleader", MetadataValue::from_static("true"));
        };
        Self::open_with(session, first, wants_leader).await
    }

    async fn open_with(
        session: &Session,
        first: pb::WatchCreateRequest,
        metadata: impl FnOnce(&mut MetadataMap),
    ) -> Result<Self> {
        let (requests, receiver) = mpsc::channel(64);
        requests.send(create(first)).await?;
        let mut stream = Request::new(ReceiverStream::new(receiver));
        metadata(stream.metadata_mut());
        let responses = session.watch_client().watch(stream).await?.into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    pub async fn create(&self, request: pb::WatchCreateRequest) -> Result<()> {
        Ok(self.requests.send(create(request)).await?)
    }

    pub async fn cancel(&self, watch_id: i64) -> Result<()> {
        let request = pb::WatchCancelRequest { watch_id };
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CancelRequest(request)),
        };
        Ok(self.requests.send(request).await?)
    }

    pub async fn ask_progress(&self) -> Result<()> {
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
        };
        Ok(self.requests.send(request).await?)
    }

    /// A request without a content.
    pub async fn ask_nothing(&self) -> Result<()> {
        let request = pb::WatchRequest {
            request_union: None,
        };
        Ok(self.requests.send(request).await?)
    }

    /// The next response, unrecorded.
    pub async fn response(&mut self) -> Result<pb::WatchResponse> {
        let next = tokio::time::timeout(LIMIT, self.responses.next()).await;
        let next = next.context("no watch response")?;
        Ok(next.context("the watch stream ended")??)
    }

    /// Waits until the stream ends; the error it ends with.
    pub async fn end(&mut self) -> Result<Status> {
        let end = async {
            loop {
                match self.responses.next().await.context("it ended well")? {
                    Ok(_) => {}
                    Err(status) => return Ok(status),
                }
            }
        };
        tokio::time::timeout(LIMIT, end).await?
    }

    /// Records the next response.
    pub async fn next(&mut self, session: &mut Session) -> Result<pb::WatchResponse> {
        let response = self.response().await?;
        session.message("watch", response)
    }

    /// Records the next `count` events, however they are cut into responses, and checks what every cut must hold.
    pub async fn events(&mut self, session: &mut Session, count: usize) -> Result<()> {
        let mut events = Vec::new();
        let mut last = 0;
        while events.len() < count {
            let response = self.response().await?;
            ensure!(!response.created && !response.canceled, "{response:?}");
            ensure!(!response.events.is_empty(), "no events in {response:?}");
            let revision = |event: &xebec_proto::mvccpb::Event| {
                event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
            };
            let first = revision(&response.events[0]);
            ensure!(
                first > last || response.fragment,
                "revision {first} was split"
            );
            last = response.events.last().map_or(0, revision);
            let header = response.header.as_ref().context("a header")?;
            ensure!(header.revision >= last, "{} < {last}", header.revision);
            let id = response.watch_id;
            events.extend(response.events.into_iter().map(|event| (id, event)));
        }
        session.note(format!("{} events", events.len()));
        for (id, event) in events {
            session.message(&format!("event for {id}"), event)?;
        }
        Ok(())
    }

    /// Records events until one with this value; what does not come before it does not come.
    pub async fn events_until(&mut self, session: &mut Session, value: &str) -> Result<()> {
        loop {
            for event in self.response().await?.events {
                let last = event.kv.as_ref().is_some_and(|kv| kv.value == value);
                session.message("event", event)?;
                if last {
                    return Ok(());
                }
            }
        }
    }
}

fn create(request: pb::WatchCreateRequest) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(request)),
    }
}
