//! TLS of a listener from etcd's flags: `--cert-file`, `--key-file`, `--trusted-ca-file`, `--client-cert-auth`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// The files that etcd's flags name.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Certificates of clients must be signed by one of these, if they show any.
    pub trusted_ca_file: Option<PathBuf>,
    /// Clients must show a certificate.
    pub client_cert_auth: bool,
}

/// Why a listener cannot use TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} holds no private key", .path.display())]
    NoKey { path: PathBuf },
    #[error("client certificates cannot be required without a trusted CA file")]
    NoCa,
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

impl TlsFiles {
    /// A configuration for HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// A file is missing, or does not hold what it should.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
        let builder = match &self.trusted_ca_file {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
                let verifier = if self.client_cert_auth {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                let verifier = verifier.build().map_err(|error| unusable(&error))?;
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
            None if self.client_cert_auth => return Err(TlsError::NoCa),
            None => ServerConfig::builder().with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(certificates(&self.cert_file)?, key(&self.key_file)?)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    rustls_pemfile::certs(&mut read(path)?.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Read {
            path: path.to_owned(),
            source,
        })
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let found = rustls_pemfile::private_key(&mut read(path)?.as_slice());
    let found = found.map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })?;
    found.ok_or_else(|| TlsError::NoKey {
        path: path.to_owned(),
    })
}
