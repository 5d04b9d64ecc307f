//! Where a request goes: to a gRPC service by its path, or to HTTP. What holds for every gRPC call is done here: counting it,
//! refusing it without a leader if it asks for one, and gRPC for Go's words for what no service sees.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body as HttpBody;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::{HeaderMap, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body as GrpcBody;
use tonic::codegen::StdError;
use tower::{Service, ServiceExt};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::grpc_health_v1::health_server::HealthServer;
use xebec_proto::v3electionpb::election_server::ElectionServer;
use xebec_proto::v3lockpb::lock_server::LockServer;

use crate::front::{Front, no_leader, not_for_learners, requires_leader};
use crate::methods::{self, Kind, METHODS};
use crate::metrics::Metrics;
use crate::serve::Offer;
use crate::splice::WatchServer;
use crate::while_led::WhileLed;

/// All services of one front. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dispatch {
    front: Front,
    kv: pb::kv_server::KvServer<Front>,
    watch: WatchServer,
    lease: pb::lease_server::LeaseServer<Front>,
    cluster: pb::cluster_server::ClusterServer<Front>,
    maintenance: pb::maintenance_server::MaintenanceServer<Front>,
    auth: pb::auth_server::AuthServer<Front>,
    lock: LockServer<Front>,
    election: ElectionServer<Front>,
    health: HealthServer<Front>,
    http: axum::Router,
    offer: Offer,
}

type Answer = Response<Outgoing>;

impl Dispatch {
    pub fn new(front: &Front, offer: Offer) -> Self {
        let limit = front.max_message_bytes();
        let front = front.clone();
        Self {
            kv: pb::kv_server::KvServer::new(front.clone())
                .max_decoding_message_size(limit)
                .max_encoding_message_size(usize::MAX),
            watch: WatchServer::new(front.clone()),
            lease: pb::lease_server::LeaseServer::new(front.clone())
                .max_encoding_message_size(usize::MAX),
            cluster: pb::cluster_server::ClusterServer::new(front.clone()),
            maintenance: pb::maintenance_server::MaintenanceServer::new(front.clone()),
            auth: pb::auth_server::AuthServer::new(front.clone()),
            lock: LockServer::new(front.clone()),
            election: ElectionServer::new(front.clone()),
            health: HealthServer::new(front.clone()),
            http: crate::health::routes(&front, offer),
            front,
            offer,
        }
    }

    pub fn call<B>(&self, request: Request<B>) -> BoxFuture<'static, Answer>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let content = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = content.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if is_grpc && self.offer == Offer::Everything {
            return self.grpc(request);
        }
        let answer = self.http.clone().oneshot(request.map(HttpBody::new));
        async move {
            match answer.await {
                Ok(answer) => answer.map(Outgoing::Http),
                Err(never) => match never {},
            }
        }
        .boxed()
    }

    fn grpc<B>(&self, request: Request<B>) -> BoxFuture<'static, Answer>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let refuse = |status: Status| {
            let answer = status.into_http::<GrpcBody>();
            futures::future::ready(answer.map(Outgoing::Refused)).boxed()
        };
        let method = match methods::find(request.uri().path()) {
            Ok(method) => method,
            Err(unknown) => return refuse(Status::unimplemented(unknown)),
        };
        let metrics = self.front.metrics.clone();
        metrics.started(method);
        if self.front.store.is_learner() && !methods::is_for_learners(method) {
            let refusal = not_for_learners();
            metrics.handled(method, refusal.code() as usize);
            return refuse(refusal);
        }
        let requires_leader = requires_leader(request.headers());
        if requires_leader && self.front.store.leader().leader.is_none() {
            metrics.handled(method, tonic::Code::Unavailable as usize);
            return refuse(no_leader());
        }
        let request = request.map(|body| Received {
            body,
            metrics: metrics.clone(),
        });
        let answer = self.route(METHODS[method].service, request);
        // A stream outlives the look at the leader above.
        let ends_unled = requires_leader && METHODS[method].kind != Kind::Unary;
        let ends_unled = ends_unled.then(|| self.front.clone());
        async move {
            let mut answer = match answer.await {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            reword_too_large(answer.headers_mut());
            let mut call = Call::new(method, metrics);
            call.look_for_end(answer.headers());
            answer.map(|body| {
                let body = match ends_unled {
                    Some(front) => GrpcBody::new(WhileLed::new(body, front)),
                    None => body,
                };
                Outgoing::Grpc(Counted { body, call })
            })
        }
        .boxed()
    }

    fn route<B>(
        &self,
        service: &str,
        request: Request<Received<B>>,
    ) -> BoxFuture<'static, Result<Response<GrpcBody>, std::convert::Infallible>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        match service {
            "etcdserverpb.KV" => self.kv.clone().call(request),
            "etcdserverpb.Watch" => self.watch.clone().call(request),
            "etcdserverpb.Lease" => self.lease.clone().call(request),
            "etcdserverpb.Cluster" => self.cluster.clone().call(request),
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request),
            "etcdserverpb.Auth" => self.auth.clone().call(request),
            "v3lockpb.Lock" => self.lock.clone().call(request),
            "v3electionpb.Election" => self.election.clone().call(request),
            "grpc.health.v1.Health" => self.health.clone().call(request),
            service => unreachable!("{service} is in the table of methods and not served"),
        }
    }
}

/// A message above the limit is refused in the words of gRPC for Go.
fn reword_too_large(headers: &mut HeaderMap) {
    const OURS: &str = "Error, decoded message length too large: found ";
    let code = headers.get("grpc-status");
    if code.is_none_or(|code| code.as_bytes() != b"11") {
        return;
    }
    let Some(message) = Status::from_header_map(headers).map(|status| status.message().to_owned())
    else {
        return;
    };
    let Some(rest) = message.strip_prefix(OURS) else {
        return;
    };
    let mut numbers = rest
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty());
    let (Some(found), Some(limit)) = (numbers.next(), numbers.next()) else {
        return;
    };
    let text = format!("grpc: received message larger than max ({found} vs. {limit})");
    // Cannot fail: a status of plain text.
    let _ = Status::resource_exhausted(text).add_header(headers);
}

/// A request's body, counted.
struct Received<B> {
    body: B,
    metrics: Metrics,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.metrics.received(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A call under way, to be counted once by how it ends.
pub(crate) struct Call {
    method: usize,
    metrics: Metrics,
    ended: bool,
}

impl Call {
    pub fn new(method: usize, metrics: Metrics) -> Self {
        Self {
            method,
            metrics,
            ended: false,
        }
    }

    fn look_for_end(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            let code = code.to_str().ok().and_then(|code| code.parse().ok());
            self.end(code.unwrap_or(tonic::Code::Unknown as usize));
        }
    }

    pub fn end(&mut self, code: usize) {
        if !self.ended {
            self.ended = true;
            self.metrics.handled(self.method, code);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(tonic::Code::Cancelled as usize);
    }
}

/// An answer's body whose end is counted.
pub(crate) struct Counted {
    body: GrpcBody,
    call: Call,
}

/// The body of whatever was answered.
pub(crate) enum Outgoing {
    Grpc(Counted),
    Refused(GrpcBody),
    Http(HttpBody),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let counted = match &mut *self {
            Outgoing::Grpc(counted) => counted,
            Outgoing::Refused(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            }
            Outgoing::Http(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            }
        };
        let frame = ready!(Pin::new(&mut counted.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                counted.call.metrics.sent(data.len());
            } else if let Some(trailers) = frame.trailers_ref() {
                counted.call.look_for_end(trailers);
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Grpc(counted) => counted.body.is_end_stream(),
            Outgoing::Refused(body) => body.is_end_stream(),
            Outgoing::Http(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Grpc(counted) => counted.body.size_hint(),
            Outgoing::Refused(body) => body.size_hint(),
            Outgoing::Http(body) => body.size_hint(),
        }
    }
}
