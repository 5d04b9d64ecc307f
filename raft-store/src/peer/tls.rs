//! Members over TCP, plain or with TLS. Certificates are read anew for every connection, so that they can be renewed
//! without a restart.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::net::{PeerListener, PeerNetwork, PeerStream};
use crate::limits;

/// Files for TLS between members: etcd's `--peer-…` flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTls {
    /// Certificate of this member, shown to those who connect and to those it connects to.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// CA of the members' certificates.
    pub trusted_ca_file: Option<PathBuf>,
    /// Refuse members without a certificate of that CA.
    pub client_cert_auth: bool,
}

/// The network as it is.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    tls: PeerTls,
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

impl Tcp {
    pub fn new(tls: PeerTls) -> Self {
        Self { tls }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// Whether a URL asks for TLS, and its host and port.
fn parse(url: &str) -> io::Result<(bool, &str)> {
    let address = url.trim_end_matches('/');
    if let Some(address) = address.strip_prefix("http://") {
        Ok((false, address))
    } else if let Some(address) = address.strip_prefix("https://") {
        Ok((true, address))
    } else {
        Err(invalid(format!(
            "the peer URL {url} is not of the form http://HOST:PORT or https://HOST:PORT"
        )))
    }
}

impl PeerTls {
    fn identity(&self) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) else {
            return Err(invalid(
                "https between members needs --peer-cert-file and --peer-key-file",
            ));
        };
        let failed = |path: &PathBuf, error: rustls::pki_types::pem::Error| {
            invalid(format!("cannot read {}: {error}", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| failed(certificate, error))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error))?;
        Ok((chain, key))
    }

    fn roots(&self) -> io::Result<Option<Arc<RootCertStore>>> {
        let Some(file) = &self.trusted_ca_file else {
            return Ok(None);
        };
        let failed = |error: &dyn std::fmt::Display| {
            invalid(format!("cannot use {}: {error}", file.display()))
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| failed(&error))?;
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
        Ok(Some(Arc::new(roots)))
    }

    fn server(&self) -> io::Result<ServerConfig> {
        let (chain, key) = self.identity()?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(invalid)?;
        let builder = match (self.client_cert_auth, self.roots()?) {
            (true, Some(roots)) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(invalid)?)
            }
            (true, None) => {
                return Err(invalid(
                    "--peer-client-cert-auth needs --peer-trusted-ca-file",
                ));
            }
            (false, _) => builder.with_no_client_auth(),
        };
        builder.with_single_cert(chain, key).map_err(invalid)
    }

    fn client(&self) -> io::Result<ClientConfig> {
        let roots = self
            .roots()?
            .ok_or_else(|| invalid("https between members needs --peer-trusted-ca-file"))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(invalid)?
            .with_root_certificates(roots);
        if self.cert_file.is_none() {
            return Ok(builder.with_no_client_auth());
        }
        let (chain, key) = self.identity()?;
        builder.with_client_auth_cert(chain, key).map_err(invalid)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[async_trait]
impl PeerNetwork for Tcp {
    async fn dial(&self, url: &str) -> io::Result<Box<dyn PeerStream>> {
        let (tls, address) = parse(url)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if !tls {
            return Ok(Box::new(stream));
        }
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let connector = TlsConnector::from(Arc::new(self.tls.client()?));
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    async fn listen(&self, url: &str) -> io::Result<Box<dyn PeerListener>> {
        let (tls, address) = parse(url)?;
        if tls {
            // What is wrong with the files is said at the start.
            self.tls.server()?;
        }
        let listener = TcpListener::bind(address).await?;
        let (done, accepted) = mpsc::channel(limits::PEER_HANDSHAKES);
        Ok(Box::new(Accepting {
            listener,
            tls: tls.then(|| self.tls.clone()),
            done,
            accepted,
        }))
    }
}

struct Accepting {
    listener: TcpListener,
    tls: Option<PeerTls>,
    done: mpsc::Sender<Box<dyn PeerStream>>,
    accepted: mpsc::Receiver<Box<dyn PeerStream>>,
}

#[async_trait]
impl PeerListener for Accepting {
    async fn accept(&mut self) -> io::Result<Box<dyn PeerStream>> {
        loop {
            tokio::select! {
                stream = self.listener.accept() => {
                    let (stream, _) = stream?;
                    stream.set_nodelay(true)?;
                    let Some(tls) = self.tls.clone() else {
                        return Ok(Box::new(stream));
                    };
                    // A handshake must not hold up the next connection.
                    let done = self.done.clone();
                    tokio::spawn(async move {
                        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(&tls, stream)).await {
                            Ok(Ok(stream)) => drop(done.send(stream).await),
                            Ok(Err(error)) => tracing::warn!(%error, "a member's TLS handshake failed"),
                            Err(_) => tracing::warn!("a member's TLS handshake took too long"),
                        }
                    });
                }
                Some(stream) = self.accepted.recv() => return Ok(stream),
            }
        }
    }
}

async fn handshake(tls: &PeerTls, stream: TcpStream) -> io::Result<Box<dyn PeerStream>> {
    let acceptor = TlsAcceptor::from(Arc::new(tls.server()?));
    Ok(Box::new(acceptor.accept(stream).await?))
}
