//! The client of the Kubernetes API: one HTTP/2 connection over mutual TLS, to whichever server answers.
//!
//! It is here so that losing a master is a reconnect and not an error of everything that talks to it. It must not know what
//! is asked. The list of servers lives in the connector: a connection that dies is opened again at the next server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::{Body, ClientBuilder, middleware::BaseUriLayer};
use parking_lot::RwLock;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{AgentConfig, Identity, Pem};
use crate::error::AgentError;
use crate::tls;

/// How long one server may take to accept a connection, TLS included, before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed this often, so that a dead master is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A probe unanswered for this long ends the connection.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An API server's host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    host: String,
    port: u16,
}

impl Server {
    fn parse(url: &str) -> Result<Self, AgentError> {
        let bad = || AgentError::ServerAddress(url.to_string());
        let uri: http::Uri = url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("https") {
            return Err(bad());
        }
        let host = uri.host().ok_or_else(bad)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_string();
        Ok(Server {
            host,
            port: uri.port_u16().unwrap_or(443),
        })
    }

    fn url(&self) -> String {
        match self.host.contains(':') {
            true => format!("https://[{}]:{}", self.host, self.port),
            false => format!("https://{}:{}", self.host, self.port),
        }
    }
}

/// The servers known now. Shared, so that the list can follow the cluster's.
#[derive(Clone)]
pub(crate) struct Servers {
    configured: Arc<Vec<Server>>,
    list: Arc<RwLock<Vec<Server>>>,
    current: Arc<AtomicUsize>,
}

impl Servers {
    pub(crate) fn parse(urls: &[String]) -> Result<Self, AgentError> {
        let list = urls
            .iter()
            .map(|url| Server::parse(url))
            .collect::<Result<Vec<_>, _>>()?;
        if list.is_empty() {
            return Err(AgentError::ServerAddress(String::new()));
        }
        Ok(Servers {
            configured: Arc::new(list.clone()),
            list: Arc::new(RwLock::new(list)),
            current: Arc::default(),
        })
    }

    /// Takes over the servers that the cluster names; those that were configured stay as the last resort. Whether they are
    /// others than before.
    pub(crate) fn learn(&self, found: Vec<(std::net::IpAddr, u16)>) -> bool {
        let server = |(ip, port): (std::net::IpAddr, u16)| Server {
            host: ip.to_string(),
            port,
        };
        let mut next: Vec<Server> = found.into_iter().map(server).collect();
        let missing = self.configured.iter().filter(|s| !next.contains(s));
        next.extend(missing.cloned().collect::<Vec<_>>());
        let mut list = self.list.write();
        if *list == next {
            return false;
        }
        let current = list[self.current.load(Ordering::Relaxed) % list.len()].clone();
        let index = next.iter().position(|s| *s == current).unwrap_or(0);
        tracing::debug!(servers = ?next, "the cluster's API servers");
        *list = next;
        self.current.store(index, Ordering::Relaxed);
        true
    }

    /// Their URLs.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.list.read().iter().map(Server::url).collect()
    }

    /// The servers, the one that answered last first.
    fn in_turn(&self) -> Vec<(usize, Server)> {
        let list = self.list.read();
        let start = self.current.load(Ordering::Relaxed) % list.len();
        (0..list.len())
            .map(|i| (start + i) % list.len())
            .map(|i| (i, list[i].clone()))
            .collect()
    }
}

/// A client of the API for this agent, and the servers that it may use.
pub(crate) fn client(config: &AgentConfig) -> Result<(kube::Client, Servers), AgentError> {
    let servers = Servers::parse(&config.servers)?;
    let connector = Connector {
        servers: servers.clone(),
        ca: config.server_ca.clone(),
        identity: config.client_identity.clone(),
    };
    connector.tls()?;
    let hyper: HyperClient<Connector, Body> = HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .http2_adaptive_window(true)
        .build(connector);
    let base = http::Uri::from_static("https://kubernetes.default.svc");
    let builder = ClientBuilder::new(hyper, "default").with_layer(&BaseUriLayer::new(base));
    Ok((builder.build(), servers))
}

#[derive(Clone)]
struct Connector {
    servers: Servers,
    ca: Pem,
    identity: Identity,
}

impl Connector {
    fn tls(&self) -> Result<TlsConnector, AgentError> {
        Ok(TlsConnector::from(Arc::new(tls::client_config(
            &self.ca,
            &self.identity,
        )?)))
    }

    async fn connect_one(&self, tls: &TlsConnector, server: &Server) -> std::io::Result<ApiStream> {
        let name = ServerName::try_from(server.host.clone()).map_err(std::io::Error::other)?;
        let connect = async {
            let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
            tcp.set_nodelay(true)?;
            tls.connect(name, tcp).await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(std::io::Error::from)??;
        Ok(ApiStream(TokioIo::new(stream)))
    }

    async fn connect(self) -> std::io::Result<ApiStream> {
        let tls = self.tls().map_err(std::io::Error::other)?;
        let mut last = std::io::Error::other("no API server");
        for (index, server) in self.servers.in_turn() {
            match self.connect_one(&tls, &server).await {
                Ok(stream) => {
                    self.servers.current.store(index, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => {
                    last = std::io::Error::new(
                        error.kind(),
                        format!("{}:{}: {error}", server.host, server.port),
                    );
                }
            }
        }
        Err(last)
    }
}

impl tower::Service<http::Uri> for Connector {
    type Response = ApiStream;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<ApiStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// A TLS stream that tells hyper whether HTTP/2 was agreed.
struct ApiStream(TokioIo<TlsStream<TcpStream>>);

impl Connection for ApiStream {
    fn connected(&self) -> Connected {
        let (_, session) = self.0.inner().get_ref();
        match session.alpn_protocol() {
            Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl hyper::rt::Read for ApiStream {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for ApiStream {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// Whether the API said that the object is not there.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the API said that somebody else was faster.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// The API's own words where it answered, the transport's where it did not.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        let server = Server::parse("https://[::1]:6443").expect("valid");
        assert_eq!(
            server,
            Server {
                host: "::1".into(),
                port: 6443
            }
        );
        for url in ["https://[::1]:6443", "https://master-1:443"] {
            assert_eq!(Server::parse(url).expect("valid").url(), url);
        }
        assert!(Server::parse("http://a:1").is_err());
        assert!(Servers::parse(&[]).is_err());
    }

    #[test]
    fn the_server_that_answered_last_is_first() {
        let servers = Servers::parse(&["https://a:1".into(), "https://b:2".into()]).expect("valid");
        servers.current.store(1, Ordering::Relaxed);
        let hosts: Vec<String> = servers.in_turn().into_iter().map(|(_, s)| s.host).collect();
        assert_eq!(hosts, ["b", "a"]);
    }

    #[test]
    fn learned_servers_come_first_and_the_present_one_stays() {
        let servers = Servers::parse(&["https://10.0.0.2:6443".into()]).expect("valid");
        servers.learn(vec![
            ([10, 0, 0, 1].into(), 6443),
            ([10, 0, 0, 2].into(), 6443),
        ]);
        let hosts: Vec<String> = servers.in_turn().into_iter().map(|(_, s)| s.host).collect();
        assert_eq!(hosts, ["10.0.0.2", "10.0.0.1"]);
        servers.learn(vec![([10, 0, 0, 3].into(), 6443)]);
        let hosts: Vec<String> = servers.in_turn().into_iter().map(|(_, s)| s.host).collect();
        assert_eq!(hosts, ["10.0.0.2", "10.0.0.3"]);
    }

    #[test]
    fn masters_may_share_an_address() {
        let servers = Servers::parse(&["https://10.0.0.1:6444".into()]).expect("valid");
        let ip = std::net::IpAddr::from([10, 0, 0, 1]);
        servers.learn(vec![(ip, 6443), (ip, 6444), (ip, 6445)]);
        let ports: Vec<u16> = servers.in_turn().into_iter().map(|(_, s)| s.port).collect();
        assert_eq!(ports, [6444, 6445, 6443]);
    }
}
