//! Listening: gRPC and HTTP on one port, with or without TLS, until the front is shut down.
//!
//! Each connection stays on one thread, together with all its streams: what a request wakes runs next, on the same core.
//! Reads that may take long go to the caller's runtime.

use std::convert::Infallible;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::authority::Mended;
use crate::connection;
use crate::dispatch::Dispatch;
use crate::front::Front;

/// How long a client may take for its part of a handshake.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
/// How long a connection may be silent at first, or an HTTP/1 connection wait for the next request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How long requests under way may still take after a shutdown.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Threads for clients, however many cores there are: Raft's own thread is busy by then.
const MAX_THREADS: usize = 8;
/// Connections that may wait for their thread.
const QUEUED_CONNECTIONS: usize = 64;

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
        });
        let threads: Vec<_> = (0..thread_count(offer))
            .map(|_| Thread::start(service.clone()))
            .collect::<Result<_, _>>()
            .map_err(ServeError)?;
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

/// One core is Raft's.
fn thread_count(offer: Offer) -> usize {
    match offer {
        Offer::Everything => {
            let cores = thread::available_parallelism().map_or(1, NonZero::get);
            cores.saturating_sub(1).clamp(1, MAX_THREADS)
        }
        Offer::Metrics => 1,
    }
}

/// A thread that serves clients.
struct Thread {
    connections: mpsc::Sender<std::net::TcpStream>,
    ended: oneshot::Receiver<()>,
}

impl Thread {
    fn start(service: Arc<Service>) -> io::Result<Self> {
        let (connections, receiver) = mpsc::channel(QUEUED_CONNECTIONS);
        let (done, ended) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let body = move || {
            runtime.block_on(serve_all(service, receiver));
            // What is left in it holds the store, which nobody may hold once this has ended.
            drop(runtime);
            // Whoever asked may have gone.
            let _ = done.send(());
        };
        thread::Builder::new()
            .name("clients".to_owned())
            .spawn(body)?;
        Ok(Self { connections, ended })
    }
}

async fn serve_all(service: Arc<Service>, mut connections: mpsc::Receiver<std::net::TcpStream>) {
    let tasks = TaskTracker::new();
    while let Some(stream) = connections.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => drop(tasks.spawn(serve_one(stream, service.clone()))),
            Err(error) => tracing::debug!(%error, "a client went away at once"),
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn serve_one(stream: TcpStream, service: Arc<Service>) {
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
        Ok(Ok(false)) => http1(stream, service).await.map_err(io::Error::other),
        Ok(Err(error)) => Err(error),
        Err(silent) => Err(silent.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
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
