//! Every call but the few hot ones: HTTP/2 streams to and from the services, routed in the ordinary way.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tonic::codegen::StdError;

use crate::dispatch::Dispatch;

/// A request's body as services read it.
struct Incoming(RecvStream);

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.0.poll_data(cx)) {
            Some(Ok(data)) => {
                self.0.flow_control().release_capacity(data.len())?;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                let trailers = ready!(self.0.poll_trailers(cx))?;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Lets the services answer one call. A client that goes away ends it.
pub(crate) async fn relay(
    dispatch: Dispatch,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let response = tokio::select! {
        response = dispatch.call(request.map(Incoming)) => response,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let (head, body) = response.into_parts();
    let empty = body.is_end_stream();
    let Ok(stream) = respond.send_response(http::Response::from_parts(head, ()), empty) else {
        return;
    };
    if !empty {
        // The client has gone away: nobody to tell.
        let _ = send(stream, body).await;
    }
}

async fn send<B>(mut stream: SendStream<Bytes>, body: B) -> Result<(), h2::Error>
where
    B: Body<Data = Bytes, Error = StdError>,
{
    let mut body = pin!(body);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            reset = poll_fn(|cx| stream.poll_reset(cx)) => return reset.map(drop),
        };
        let Some(Ok(frame)) = frame else {
            break;
        };
        match frame.into_data() {
            Ok(data) => send_all(&mut stream, data).await?,
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_else(|_| HeaderMap::new());
                return stream.send_trailers(trailers);
            }
        }
    }
    stream.send_data(Bytes::new(), true)
}

/// Sends as the client makes room.
async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(room) = room.transpose()? else {
            return Err(h2::Reason::CANCEL.into());
        };
        let piece = data.split_to(room.min(data.len()));
        stream.send_data(piece, false)?;
    }
    Ok(())
}
