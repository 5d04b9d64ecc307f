//! The network's side: TLS, HTTP/1.1 and HTTP/2, one task per connection.
//!
//! What arrives broken is dropped with its connection; a client that does not read, or does not finish its handshake or
//! its head, is cut off.

mod renewal;
mod stalled;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Request;
use crate::body::{AnswerBody, RequestBody};
use crate::compression;
use crate::core::Core;
use crate::identity::PeerCertificates;
use stalled::CutOffStalled;

/// Connections that are open at once.
const CONNECTIONS_LIMIT: usize = 20_000;
/// How long to wait after a connection could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's headers, URL included, have at most this many bytes over HTTP/2: label selectors may be long.
const HEADER_BYTES: u32 = 256 << 10;
/// Requests that one HTTP/2 connection runs at once.
const STREAMS_PER_CONNECTION: u32 = 1000;
/// How long a connection is kept that answers no HTTP/2 ping.
const PING_TIMEOUT: Duration = Duration::from_secs(30);
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes that wait for one HTTP/2 stream's reader at most.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Serves connections until `stop`; running ones are then told to finish.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    core: Arc<Core>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok((stream, address)) => (stream, address.ip()),
            Err(error) => {
                // Out of file descriptors: others will close, and the slot limit is above the usual number.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (acceptor, core, stop) = (acceptor.clone(), core.clone(), stop.clone());
        tasks.spawn(async move {
            connection(stream, remote, acceptor, core, stop).await;
            drop(slot);
        });
    }
}

async fn connection(
    stream: TcpStream,
    remote: IpAddr,
    acceptor: Option<TlsAcceptor>,
    core: Arc<Core>,
    stop: CancellationToken,
) {
    // Answers are small and written at once; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let stream = CutOffStalled::new(stream);
    let Some(acceptor) = acceptor else {
        return http(stream, None, remote, core, stop).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => {
            let chain = tls.get_ref().1.peer_certificates();
            let peer =
                chain.map(|c| PeerCertificates(c.iter().map(|c| c.clone().into_owned()).collect()));
            http(tls, peer, remote, core, stop).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake error"),
        Err(_) => tracing::debug!("TLS handshake timeout"),
    }
}

async fn http<S>(
    stream: S,
    peer: Option<PeerCertificates>,
    remote: IpAddr,
    core: Arc<Core>,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let renewed = renewal::until_renewed(peer.as_ref(), SystemTime::now());
    let ending = async move {
        tokio::select! { () = stop.cancelled() => {}, () = renewal::wait(renewed) => {} }
    };
    let service = service_fn(move |request| {
        let (core, peer) = (core.clone(), peer.clone());
        async move { Ok::<_, Infallible>(answer(core, peer, remote, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(4 << 20);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = ending => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(
    core: Arc<Core>,
    peer: Option<PeerCertificates>,
    remote: IpAddr,
    mut request: http::Request<Incoming>,
) -> http::Response<AnswerBody> {
    let upgrade = request
        .headers()
        .contains_key(http::header::UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let is_head = request.method() == http::Method::HEAD;
    let (parts, body) = request.into_parts();
    let accepts_gzip = compression::is_accepted(&parts.headers);
    let request = Request {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: RequestBody::Incoming(body),
        peer,
        remote: Some(remote),
        user: None,
        fence: None,
        upgrade,
    };
    let mut answer = core.answer(request).await;
    if accepts_gzip {
        compression::compress(&mut answer);
    }
    if is_head {
        answer.body = AnswerBody::Bytes(bytes::Bytes::new());
    }
    let mut response = http::Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}
