//! Listening: gRPC and HTTP on one port, with or without TLS, until the front is shut down.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::authority::Mended;
use crate::dispatch::Dispatch;
use crate::front::Front;

/// How long a client may take for its part of the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
/// How long an HTTP/1 connection may wait for the next request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How long requests under way may still take after a shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Idle connections are asked for a sign of life this often, as in etcd.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that a client may send before they are taken up: per stream, per connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that failed.
#[derive(Debug, thiserror::Error)]
#[error("accepting connections failed: {0}")]
pub struct ServeError(#[source] io::Error);

/// What a listener offers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Everything,
    /// `--listen-metrics-urls`: metrics and health only.
    Metrics,
}

impl Front {
    /// Serves clients on a listener until the front is shut down and their requests are answered.
    ///
    /// # Errors
    /// The listener failed for good.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<(), ServeError> {
        self.listen(listener, tls, Offer::Everything).await
    }

    /// Serves metrics and health, and nothing else.
    ///
    /// # Errors
    /// The listener failed for good.
    pub async fn serve_metrics(
        &self,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<(), ServeError> {
        self.listen(listener, tls, Offer::Metrics).await
    }

    async fn listen(
        &self,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        offer: Offer,
    ) -> Result<(), ServeError> {
        let acceptor = tls.map(TlsAcceptor::from);
        let dispatch = Dispatch::new(self, offer);
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection =
                        connection(self.clone(), stream, acceptor.clone(), dispatch.clone());
                    connections.spawn(connection);
                }
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "no room for another connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(error) => return Err(ServeError(error)),
            }
        }
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

/// Whether the next connection may fare better.
fn is_passing(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected
    )
}

async fn connection(
    front: Front,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    dispatch: Dispatch,
) {
    // A connection without it only answers later.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        return exchange(front, stream, dispatch).await;
    };
    match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => exchange(front, stream, dispatch).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client's TLS handshake failed"),
        Err(_) => tracing::debug!("a client did not complete its TLS handshake"),
    }
}

async fn exchange<S>(front: Front, stream: S, dispatch: Dispatch)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(front.options.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = dispatch.call(request);
        async move { Ok::<Response<_>, Infallible>(answer.await) }
    });
    let served = builder.serve_connection(TokioIo::new(Mended::new(stream)), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = front.shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_LIMIT, served).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}
