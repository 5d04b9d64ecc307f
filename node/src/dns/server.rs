//! The sockets of the cluster DNS: receive, decide, answer; over UDP and TCP.
//!
//! It must not know how names are found.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::answer::{Cluster, Decision, Transport, add_chased, decide, encode, failure};
use super::forward::{Forwarder, read_message, write_message};
use super::{DnsConfig, DnsError, socket};
use crate::network::ServiceCache;

/// The most questions that wait for the host's resolvers at a time; further ones are answered with a failure.
const MAX_FORWARDED: usize = 1024;
/// The most TCP connections at a time; further ones wait in the kernel.
const MAX_CONNECTIONS: usize = 128;
/// How long a TCP connection may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for one UDP question, in bytes.
const MAX_QUESTION_BYTES: usize = 4096;

struct Server {
    cache: Arc<ServiceCache>,
    zone: Name,
    config: DnsConfig,
    forwarder: Forwarder,
    forwarded: Arc<Semaphore>,
}

pub(super) async fn run(
    cache: Arc<ServiceCache>,
    config: DnsConfig,
    shutdown: CancellationToken,
) -> Result<(), DnsError> {
    let mut zone = Name::from_ascii(&config.cluster_domain)
        .map_err(|_| DnsError::Domain(config.cluster_domain.clone()))?;
    zone.set_fqdn(true);
    let listen = |protocol| {
        let address = config.listen;
        move |source| DnsError::Listen {
            address,
            protocol,
            source,
        }
    };
    let udp = socket::udp(config.listen).map_err(listen("UDP"))?;
    let tcp = socket::tcp(config.listen).map_err(listen("TCP"))?;
    let forwarder = Forwarder::new(config.resolv_conf.clone(), config.listen.ip());
    let forwarded = Arc::new(Semaphore::new(MAX_FORWARDED));
    let server = Arc::new(Server {
        cache,
        zone,
        config,
        forwarder,
        forwarded,
    });
    tracing::info!(address = %server.config.listen, "cluster DNS is ready");
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serve_udp(server.clone(), Arc::new(udp)) => {}
        () = serve_tcp(server, tcp) => {}
    }
    Ok(())
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; MAX_QUESTION_BYTES];
    loop {
        // Errors are those of earlier answers that could not be delivered.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Ok(request) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let reply = match server.decide(&request) {
            Decision::Reply(reply) => reply,
            Decision::Silence => continue,
            decision => {
                let Ok(permit) = server.forwarded.clone().try_acquire_owned() else {
                    let reply = failure(&request, ResponseCode::ServFail);
                    send(&socket, encode(&reply, &request, Transport::Udp), client).await;
                    continue;
                };
                let (server, socket) = (server.clone(), socket.clone());
                let question = buffer[..length].to_vec();
                tokio::spawn(async move {
                    let bytes = server
                        .look_up(decision, &request, &question, Transport::Udp)
                        .await;
                    send(&socket, bytes, client).await;
                    drop(permit);
                });
                continue;
            }
        };
        send(&socket, encode(&reply, &request, Transport::Udp), client).await;
    }
}

async fn send(socket: &UdpSocket, bytes: Option<Vec<u8>>, client: std::net::SocketAddr) {
    if let Some(bytes) = bytes
        && let Err(error) = socket.send_to(&bytes, client).await
    {
        tracing::debug!(%client, %error, "DNS answer was not sent");
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    server.converse(stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Mostly too many open files: others must end first.
                tracing::warn!(%error, "cluster DNS cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Server {
    fn decide(&self, request: &Message) -> Decision {
        let synced = self.cache.progress().borrow().synced();
        let state = self.cache.state();
        let cluster = Cluster {
            zone: &self.zone,
            server: self.config.listen.ip(),
            state: synced.then_some(&*state),
        };
        decide(request, &cluster)
    }

    /// Serves one TCP connection until its client is silent or sends nonsense.
    async fn converse(&self, mut stream: TcpStream) {
        while let Ok(Ok(question)) =
            tokio::time::timeout(IDLE_TIMEOUT, read_message(&mut stream)).await
        {
            let Ok(request) = Message::from_vec(&question) else {
                return;
            };
            let bytes = match self.decide(&request) {
                Decision::Reply(reply) => encode(&reply, &request, Transport::Tcp),
                Decision::Silence => return,
                decision => {
                    self.look_up(decision, &request, &question, Transport::Tcp)
                        .await
                }
            };
            let Some(bytes) = bytes else { return };
            if !matches!(
                tokio::time::timeout(IDLE_TIMEOUT, write_message(&mut stream, &bytes)).await,
                Ok(Ok(()))
            ) {
                return;
            }
        }
    }

    /// Asks the host's resolvers: for the question itself, or for the target of an alias.
    async fn look_up(
        &self,
        decision: Decision,
        request: &Message,
        question: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let reply = match decision {
            Decision::Chase {
                mut reply,
                target,
                kind,
            } => {
                match self.answers(&target, kind, transport).await {
                    Some(answers) => add_chased(&mut reply, answers),
                    None => *reply = failure(request, ResponseCode::ServFail),
                }
                *reply
            }
            _ => match self.forwarder.ask(question, transport).await {
                Some(answer) => return Some(answer),
                None => failure(request, ResponseCode::ServFail),
            },
        };
        encode(&reply, request, transport)
    }

    async fn answers(
        &self,
        name: &Name,
        kind: RecordType,
        transport: Transport,
    ) -> Option<Vec<Record>> {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let answer = self
            .forwarder
            .ask(&question.to_vec().ok()?, transport)
            .await?;
        Some(Message::from_vec(&answer).ok()?.answers)
    }
}
