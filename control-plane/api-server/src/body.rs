//! What an answer's body is made of: bytes, a list streamed from shared objects, or a stream without end.

mod list;
mod request;

use std::pin::Pin;
use std::task::{Context, Poll};

use api_machinery::Status;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body::{Body, Frame, SizeHint};

pub(crate) use list::ListBody;
pub(crate) use request::{BODY_BYTES_LIMIT, RequestBody};

/// Pieces of a body; an error breaks the connection off.
pub(crate) type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// The body of an answer.
pub(crate) enum AnswerBody {
    Bytes(Bytes),
    List(Box<ListBody>),
    Stream(ByteStream),
}

impl Default for AnswerBody {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl AnswerBody {
    /// The whole body; for callers in the process, which ask for nothing endless.
    pub async fn collect(self) -> Result<Bytes, Status> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::List(list) => Ok(list.into_bytes()),
            Self::Stream(mut stream) => {
                let mut out = BytesMut::new();
                while let Some(piece) = stream.next().await {
                    out.extend_from_slice(&piece.map_err(Status::internal_error)?);
                }
                Ok(out.freeze())
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::List(list) => Poll::Ready(list.next_chunk().map(|chunk| Ok(Frame::data(chunk)))),
            Self::Stream(stream) => stream
                .poll_next_unpin(cx)
                .map(|p| p.map(|r| r.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.remaining() == 0,
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::List(list) => SizeHint::with_exact(list.remaining()),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
