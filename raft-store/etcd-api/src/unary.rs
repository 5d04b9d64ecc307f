//! The KV calls straight from HTTP/2 frames, without the layers that streams, compression and routing need.
//!
//! Behaviour is that of the service in `kv.rs`, whose functions are called here.

use std::future::Future;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use prost::Message;
use tonic::{Code, Status};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::request_op::Request as Op;

use crate::convert::range_request;
use crate::dispatch::Call;
use crate::error::status;
use crate::framing::{FRAME_HEADER, Framing};
use crate::front::{Front, no_leader, not_for_learners, requires_leader};
use crate::methods;
use crate::serve::{Offer, Service};

/// The calls that are answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Range,
    Put,
    DeleteRange,
    Txn,
}

/// A call that is answered here, and its number in the table of methods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    kind: Kind,
    number: usize,
}

impl Method {
    /// The method of a request, if it is one of these and comes in the ordinary form.
    pub fn of<B>(request: &Request<B>, offer: Offer) -> Option<Self> {
        let path = request.uri().path();
        let kind = match path.strip_prefix("/etcdserverpb.KV/")? {
            "Range" => Kind::Range,
            "Put" => Kind::Put,
            "DeleteRange" => Kind::DeleteRange,
            "Txn" => Kind::Txn,
            _ => return None,
        };
        let headers = request.headers();
        let plain = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/grpc")
            && !headers.contains_key("grpc-encoding");
        if !plain || offer != Offer::Everything {
            return None;
        }
        let number = methods::find(path).ok()?;
        Some(Self { kind, number })
    }
}

/// Reads the request, carries it out, sends the answer. A client that has gone away is no error.
pub(crate) async fn answer(
    service: Arc<Service>,
    method: Method,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let front = &service.front;
    front.metrics.started(method.number);
    let mut counted = Call::new(method.number, front.metrics.clone());
    let (head, mut body) = request.into_parts();
    let leaderless = requires_leader(&head.headers) && front.store.leader().leader.is_none();
    let answer = if front.store.is_learner() && method.kind != Kind::Range {
        Err(not_for_learners())
    } else if leaderless {
        Err(no_leader())
    } else {
        match message(&mut body, front).await {
            Ok(raw) => call(&service, method.kind, raw).await,
            Err(Refused::Status(status)) => Err(*status),
            Err(Refused::Gone) => return,
        }
    };
    let mut response = Response::new(());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    match answer {
        Ok(frame) => {
            front.metrics.sent(frame.len());
            counted.end(Code::Ok as usize);
            let Ok(mut stream) = respond.send_response(response, false) else {
                return;
            };
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            if stream.send_data(frame, false).is_ok() {
                let _ = stream.send_trailers(trailers);
            }
        }
        Err(status) => {
            counted.end(status.code() as usize);
            // What does not fit into a header is not said.
            let _ = status.add_header(response.headers_mut());
            let _ = respond.send_response(response, true);
        }
    }
}

enum Refused {
    Status(Box<Status>),
    /// The client has reset the stream.
    Gone,
}

fn refuse(status: Status) -> Refused {
    Refused::Status(Box::new(status))
}

/// The request's one message.
async fn message(body: &mut RecvStream, front: &Front) -> Result<Bytes, Refused> {
    let mut framing = Framing::new(front.max_message_bytes());
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| Refused::Gone)?;
        body.flow_control()
            .release_capacity(data.len())
            .map_err(|_| Refused::Gone)?;
        front.metrics.received(data.len());
        framing.take(data).map_err(refuse)?;
    }
    framing.end().map_err(refuse)
}

async fn call(service: &Service, kind: Kind, raw: Bytes) -> Result<Bytes, Status> {
    let front = &service.front;
    match kind {
        Kind::Range => range(service, decode(raw)?).await,
        Kind::Put => encode(&front.answer_put(decode(raw)?).await?),
        Kind::DeleteRange => encode(&front.answer_delete(decode(raw)?).await?),
        Kind::Txn => txn(service, decode(raw)?).await,
    }
}

async fn txn(service: &Service, request: pb::TxnRequest) -> Result<Bytes, Status> {
    let front = service.front.clone();
    if !reads_ranges(&request) {
        return encode(&front.answer_txn(request).await?);
    }
    let answer = async move { encode(&front.answer_txn(request).await?) };
    elsewhere(service, answer).await
}

/// Whether more than single keys are read.
fn reads_ranges(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.any(|op| match &op.request {
        Some(Op::RequestRange(range)) => !range.range_end.is_empty(),
        Some(Op::RequestTxn(nested)) => reads_ranges(nested),
        _ => false,
    })
}

/// Answers on the other threads: the calls of this one need not wait for it.
async fn elsewhere(
    service: &Service,
    answer: impl Future<Output = Result<Bytes, Status>> + Send + 'static,
) -> Result<Bytes, Status> {
    let answered = service.others.spawn(answer).await;
    answered.map_err(|_| Status::internal("the call ended by a panic"))?
}

/// What may take long is read on the other threads: other calls of the connection need not wait for it.
async fn range(service: &Service, request: pb::RangeRequest) -> Result<Bytes, Status> {
    let front = &service.front;
    front.check_learner(&request)?;
    let short = front
        .store
        .short_range(&range_request(request.clone())?)
        .await;
    if let Some(answer) = short.map_err(status)? {
        return encode(&front.range_response(answer));
    }
    let front = front.clone();
    let answer = async move { encode(&front.answer_range(request).await?) };
    elsewhere(service, answer).await
}

fn decode<M: Message + Default>(raw: Bytes) -> Result<M, Status> {
    M::decode(raw).map_err(|error| {
        Status::internal(format!(
            "grpc: failed to unmarshal the received message: {error}"
        ))
    })
}

fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let len = message.encoded_len();
    let too_large = |_| {
        Status::resource_exhausted(format!(
            "trying to send message larger than max ({len} vs. {})",
            u32::MAX
        ))
    };
    let announced = u32::try_from(len).map_err(too_large)?;
    let mut out = BytesMut::with_capacity(FRAME_HEADER + len);
    out.put_u8(0);
    out.put_u32(announced);
    message.encode(&mut out).expect("there is room");
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_calls_of_kv_are_answered_here() {
        let check = |path: &str, content: &str, encoding: Option<&str>, expect| {
            let mut request = Request::post(path).header("content-type", content);
            if let Some(encoding) = encoding {
                request = request.header("grpc-encoding", encoding);
            }
            let request = request.body(()).unwrap();
            let found = Method::of(&request, Offer::Everything).map(|found| found.kind);
            assert_eq!(found, expect, "{path} {content} {encoding:?}");
            assert!(Method::of(&request, Offer::Metrics).is_none());
        };
        let range = "/etcdserverpb.KV/Range";
        check(range, "application/grpc", None, Some(Kind::Range));
        check(range, "application/grpc", Some("gzip"), None);
        check(range, "application/json", None, None);
        check("/etcdserverpb.KV/Compact", "application/grpc", None, None);
        check("/v3/kv/range", "application/grpc", None, None);
    }
}
