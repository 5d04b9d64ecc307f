//! Streams of clients that want a leader (`WithRequireLeader`) end once there has been none for too long, whichever method
//! they are of. Knows frames, not what is in them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body as GrpcBody;

use crate::front::Front;

/// An answer's body that ends with an error when the leader is lost.
pub(crate) struct WhileLed {
    body: GrpcBody,
    /// None once the stream was ended for it.
    lost: Option<BoxFuture<'static, Status>>,
}

impl WhileLed {
    pub fn new(body: GrpcBody, front: Front) -> Self {
        let lost = async move { front.leader_lost().await }.boxed();
        Self {
            body,
            lost: Some(lost),
        }
    }
}

impl Body for WhileLed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(lost) = &mut self.lost else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(status) = lost.poll_unpin(cx) {
            self.lost = None;
            let mut trailers = HeaderMap::with_capacity(2);
            status.add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.lost.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
