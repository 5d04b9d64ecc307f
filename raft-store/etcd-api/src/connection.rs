//! One client's HTTP/2 connection.
//!
//! The calls that are made most run inside the connection's own task: all requests that arrived together are taken in,
//! then answered, then all answers leave in one write. Everything else goes to the ordinary services in tasks of its own.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use crate::cork::cork;
use crate::keepalive::Keepalive;
use crate::serve::{DRAIN_LIMIT, HANDSHAKE_LIMIT, Service};
use crate::unary;

/// Bytes that a client may send before they are taken up: per stream, per connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// Bytes of one stream's answers that may wait for the client to read.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;
/// Rounds after which a busy connection lets others run.
const ROUNDS_PER_TURN: u32 = 16;

/// Serves a connection that speaks HTTP/2 until it ends or, once the front is shut down, its last call has.
///
/// # Errors
/// The connection broke.
pub(crate) async fn serve<IO>(io: IO, service: Arc<Service>) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (corked, cork) = cork(io);
    let handshake = builder(&service).handshake::<_, Bytes>(corked);
    let handshake = timeout(HANDSHAKE_LIMIT, handshake).await?;
    let mut connection = handshake.map_err(io::Error::other)?;
    let mut keepalive = connection.ping_pong().map(Keepalive::new);
    let shutdown = &service.front.shutdown;
    let mut stop = pin!(shutdown.cancelled().fuse());
    let mut too_late = pin!(async {
        shutdown.cancelled().await;
        sleep(DRAIN_LIMIT).await;
    });
    let mut calls = FuturesUnordered::new();
    poll_fn(|cx| {
        if stop.poll_unpin(cx).is_ready() {
            connection.graceful_shutdown();
        }
        if too_late.poll_unpin(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if let Some(keepalive) = &mut keepalive {
            keepalive.poll(cx)?;
        }
        for round in 0.. {
            // First all that has arrived …
            let arrived =
                poll_requests(
                    cx,
                    &mut connection,
                    |request, respond| match unary::Method::of(&request, service.offer) {
                        Some(method) => {
                            calls.push(unary::answer(service.clone(), method, request, respond));
                        }
                        None => service.hand_on(request, respond),
                    },
                )?;
            let Some(mut news) = arrived else {
                return Poll::Ready(Ok(()));
            };
            // … then all that can be answered …
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(cx) {
                news = true;
            }
            if !news {
                break;
            }
            if round == ROUNDS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        // … and only then the answers leave. If the peer takes them slowly, its readiness wakes this task.
        match cork.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Hands on the requests that have arrived; whether there were any, none if the connection has ended.
fn poll_requests<IO>(
    cx: &mut Context<'_>,
    connection: &mut Connection<IO, Bytes>,
    mut take: impl FnMut(Request<RecvStream>, SendResponse<Bytes>),
) -> io::Result<Option<bool>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut news = false;
    loop {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => {
                news = true;
                take(request, respond);
            }
            Poll::Ready(Some(Err(error))) => return Err(io::Error::other(error)),
            Poll::Ready(None) => return Ok(None),
            Poll::Pending => return Ok(Some(news)),
        }
    }
}

fn builder(service: &Service) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(service.front.options.max_concurrent_streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}
