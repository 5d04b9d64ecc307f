//! Listening: gRPC and HTTP on one port, with or without TLS, until the front is shut down.
//!
//! What may take long goes to the caller's runtime: the thread that serves a connection may be the store's own.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::Mended;
use crate::connection;
use crate::dispatch::Dispatch;
use crate::front::Front;
use crate::relay::relay;
use crate::threads;

/// How long a client may take for its part of a handshake.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
/// How long a connection may be silent at first, or an HTTP/1 connection wait for the next request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How long requests under way may still take after a shutdown.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(10);
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

/// What every thread of a listener serves.
pub(crate) struct Service {
    pub front: Front,
    pub dispatch: Dispatch,
    pub offer: Offer,
    /// Where that may run which takes long.
    pub others: Handle,
    acceptor: Option<TlsAcceptor>,
    /// Calls that the services are answering.
    calls: TaskTracker,
    /// They need not be answered any more.
    over: CancellationToken,
}

impl Service {
    /// Lets the services answer a call, in a task of its own, for as long as anybody listens.
    pub fn hand_on(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        // What they send is made while they are written to, and nothing long at once.
        let here = matches!(
            request.uri().path(),
            "/etcdserverpb.Watch/Watch" | "/etcdserverpb.Lease/LeaseKeepAlive"
        );
        let call = relay(self.dispatch.clone(), request, respond);
        let call = self.over.clone().run_until_cancelled_owned(call);
        match here {
            true => drop(self.calls.spawn(call)),
            false => drop(self.calls.spawn_on(call, &self.others)),
        }
    }
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
        let service = Arc::new(Service {
            front: self.clone(),
            dispatch: Dispatch::new(self, offer),
            offer,
            others: Handle::current(),
            acceptor: tls.map(TlsAcceptor::from),
            calls: TaskTracker::new(),
            over: CancellationToken::new(),
        });
        let threads = threads::start(&service).map_err(ServeError)?;
        let mut turn = threads.iter().cycle();
        let result = loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => break Ok(()),
            };
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => {
                    let thread = turn.next().expect("there is at least one thread");
                    // A thread ends only when this function does.
                    let _ = thread.connections.send(stream).await;
                }
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "no room for another connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(error) => break Err(ServeError(error)),
            }
        };
        for thread in threads {
            drop(thread.connections);
            let _ = thread.ended.await;
        }
        // They hold the store, which nobody may hold once this has ended.
        service.over.cancel();
        service.calls.close();
        service.calls.wait().await;
        result
    }
}

/// Whether the next connection may fare better.
fn is_passing(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected
    )
}

pub(crate) async fn serve_one(stream: TcpStream, service: Arc<Service>) {
    // A connection without it only answers later.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = service.acceptor.clone() else {
        return exchange(stream, service).await;
    };
    match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => exchange(stream, service).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client's TLS handshake failed"),
        Err(_) => tracing::debug!("a client did not complete its TLS handshake"),
    }
}

async fn exchange<S>(stream: S, service: Arc<Service>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = Mended::new(stream);
    let speaks_http2 = tokio::select! {
        found = timeout(HEAD_LIMIT, stream.speaks_http2()) => found,
        () = service.front.shutdown.cancelled() => return,
    };
    let ended = match speaks_http2 {
        Ok(Ok(true)) => connection::serve(stream, service).await,
        Ok(Ok(false)) => elsewhere(stream, service).await,
        Ok(Err(error)) => Err(error),
        Err(silent) => Err(silent.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// HTTP/1: its requests are few, and some take long.
async fn elsewhere<S>(stream: S, service: Arc<Service>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let others = service.others.clone();
    let served = others.spawn(http1(stream, service)).await;
    served.map_err(io::Error::other)?.map_err(io::Error::other)
}

async fn http1<S>(stream: S, service: Arc<Service>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let dispatch = service.dispatch.clone();
    let call = service_fn(move |request: Request<Incoming>| {
        let answer = dispatch.call(request);
        async move { Ok::<Response<_>, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), call);
    tokio::pin!(served);
    tokio::select! {
        ended = served.as_mut() => ended,
        () = service.front.shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            timeout(DRAIN_LIMIT, served).await.unwrap_or(Ok(()))
        }
    }
}
