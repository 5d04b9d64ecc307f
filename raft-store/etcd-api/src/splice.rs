//! The Watch service on the wire: each event is encoded once, and its bytes are put into the answers to all its watchers.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use futures::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use http_body::Body;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use raft_store as store;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::codegen::StdError;
use tonic::server::{Grpc, StreamingService};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::mvccpb;

use crate::convert::key_value;
use crate::front::Front;

/// The events' number in `WatchResponse`.
const EVENTS: u32 = 11;
/// The previous state's number in `Event`.
const PREV_KV: u32 = 3;

/// A watch's answer whose events are not encoded yet, or already.
pub(crate) struct WatchAnswer {
    /// Everything but the events.
    pub head: pb::WatchResponse,
    pub events: Vec<Arc<store::Event>>,
    /// Whether the watcher asked for the previous state.
    pub prev_kv: bool,
}

impl From<pb::WatchResponse> for WatchAnswer {
    fn from(head: pb::WatchResponse) -> Self {
        Self {
            head,
            events: Vec::new(),
            prev_kv: false,
        }
    }
}

impl WatchAnswer {
    /// The answer as a message, for those who do not want bytes.
    pub fn into_message(self) -> pb::WatchResponse {
        let events = self.events.iter();
        let events = events.map(|event| message(event, self.prev_kv)).collect();
        pb::WatchResponse {
            events,
            ..self.head
        }
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), prost::EncodeError> {
        self.head.encode(out)?;
        for event in &self.events {
            let encoded = encoded(event);
            let previous = previous(event, self.prev_kv);
            let previous_bytes = previous.as_ref().map_or(0, Message::encoded_len);
            encode_key(EVENTS, WireType::LengthDelimited, out);
            encode_varint(event_bytes(encoded, previous_bytes) as u64, out);
            out.put_slice(encoded);
            if let Some(previous) = previous {
                encode_key(PREV_KV, WireType::LengthDelimited, out);
                encode_varint(previous_bytes as u64, out);
                previous.encode_raw(out);
            }
        }
        Ok(())
    }
}

fn event_bytes(encoded: &Bytes, previous: usize) -> usize {
    let field = key_len(PREV_KV) + encoded_len_varint(previous as u64) + previous;
    encoded.len() + if previous > 0 { field } else { 0 }
}

/// Bytes that an event takes in an answer.
pub(crate) fn event_len(event: &store::Event, prev_kv: bool) -> usize {
    let previous = previous(event, prev_kv).map_or(0, |previous| previous.encoded_len());
    let length = event_bytes(encoded(event), previous);
    key_len(EVENTS) + encoded_len_varint(length as u64) + length
}

fn previous(event: &store::Event, prev_kv: bool) -> Option<mvccpb::KeyValue> {
    event.prev_kv.clone().filter(|_| prev_kv).map(key_value)
}

fn message(event: &store::Event, prev_kv: bool) -> mvccpb::Event {
    let kind = match event.kind {
        store::EventKind::Put => mvccpb::event::EventType::Put,
        store::EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind as i32,
        kv: Some(key_value(event.kv.clone())),
        prev_kv: previous(event, prev_kv),
    }
}

/// The event without its previous state; made once for all watchers.
fn encoded(event: &store::Event) -> &Bytes {
    let encode = || {
        let message = message(event, false);
        let mut bytes = BytesMut::with_capacity(message.encoded_len());
        message.encode_raw(&mut bytes);
        bytes.freeze()
    };
    event.encoded.get_or_init(encode)
}

/// The Watch service with a codec of its own; generated code would encode each answer whole.
#[derive(Clone)]
pub(crate) struct WatchServer {
    front: Front,
}

impl WatchServer {
    pub fn new(front: Front) -> Self {
        Self { front }
    }

    pub fn call<B>(
        self,
        request: Request<B>,
    ) -> BoxFuture<'static, Result<Response<tonic::body::Body>, Infallible>>
    where
        B: Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        async move {
            let mut grpc = Grpc::new(SpliceCodec::default())
                .apply_max_message_size_config(None, Some(usize::MAX));
            Ok(grpc.streaming(self, request).await)
        }
        .boxed()
    }
}

impl StreamingService<pb::WatchRequest> for WatchServer {
    type Response = WatchAnswer;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<WatchAnswer, Status>> + Send>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<pb::WatchRequest>>) -> Self::Future {
        let answers = self.front.watch_stream(request.into_inner());
        async move {
            Ok(tonic::Response::new(
                Box::pin(answers) as Self::ResponseStream
            ))
        }
        .boxed()
    }
}

#[derive(Default)]
struct SpliceCodec(PhantomData<()>);

impl Codec for SpliceCodec {
    type Encode = WatchAnswer;
    type Decode = pb::WatchRequest;
    type Encoder = SpliceCodec;
    type Decoder = SpliceCodec;

    fn encoder(&mut self) -> Self::Encoder {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::default()
    }
}

impl Encoder for SpliceCodec {
    type Item = WatchAnswer;
    type Error = Status;

    fn encode(&mut self, item: WatchAnswer, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for SpliceCodec {
    type Item = pb::WatchRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<pb::WatchRequest>, Status> {
        let request = pb::WatchRequest::decode(bytes);
        request
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: store::EventKind, prev_kv: bool) {
        let kv = store::KeyValue {
            key: "k".into(),
            value: vec![b'v'; 300].into(),
            create_revision: 3,
            mod_revision: 7,
            version: 2,
            lease: 9,
        };
        let event = store::Event {
            kind,
            prev_kv: Some(store::KeyValue {
                version: 1,
                ..kv.clone()
            }),
            kv,
            encoded: Default::default(),
        };
        let answer = WatchAnswer {
            head: pb::WatchResponse {
                watch_id: 5,
                ..Default::default()
            },
            events: vec![Arc::new(event)],
            prev_kv,
        };
        let mut bytes = BytesMut::new();
        answer.encode(&mut bytes).expect("there is room");
        let length = answer.head.encoded_len() + event_len(&answer.events[0], prev_kv);
        assert_eq!(bytes.len(), length);
        let expect = answer.into_message();
        assert_eq!(pb::WatchResponse::decode(bytes.freeze()), Ok(expect));
    }

    #[test]
    fn spliced_bytes_are_the_message() {
        for prev_kv in [false, true] {
            check(store::EventKind::Put, prev_kv);
            check(store::EventKind::Delete, prev_kv);
        }
    }
}
