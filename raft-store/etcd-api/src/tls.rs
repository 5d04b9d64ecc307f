//! TLS of a listener from etcd's flags: `--cert-file`, `--key-file`, `--trusted-ca-file`, `--client-cert-auth`.
//!
//! As in etcd, the certificate and its key are read again when their files change, so that they can be renewed without
//! a restart; the CA is not.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
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
        let provider = builder.crypto_provider().clone();
        let mut config = builder.with_cert_resolver(Arc::new(Renewed::new(self, provider)?));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The certificate as its files have it.
#[derive(Debug)]
struct Renewed {
    cert_file: PathBuf,
    key_file: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// When the files were changed that it was read from.
    changed: Option<[SystemTime; 2]>,
    key: Arc<CertifiedKey>,
}

impl Renewed {
    fn new(files: &TlsFiles, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let changed = changed(&files.cert_file, &files.key_file);
        let key = certified(&files.cert_file, &files.key_file, &provider)?;
        Ok(Self {
            cert_file: files.cert_file.clone(),
            key_file: files.key_file.clone(),
            provider,
            current: Mutex::new(Current { changed, key }),
        })
    }

    fn key(&self) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed(&self.cert_file, &self.key_file);
        if changed != current.changed && changed.is_some() {
            // Whatever comes of it, this state of the files was looked at.
            current.changed = changed;
            match certified(&self.cert_file, &self.key_file, &self.provider) {
                Ok(key) => {
                    tracing::info!(file = %self.cert_file.display(), "the certificate was renewed");
                    current.key = key;
                }
                // Half of it may be written: the next change is looked at again.
                Err(error) => {
                    tracing::warn!(%error, "the certificate's files changed and cannot be used; the former one stays")
                }
            }
        }
        current.key.clone()
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

fn changed(cert: &Path, key: &Path) -> Option<[SystemTime; 2]> {
    let at = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|file| file.modified())
            .ok()
    };
    Some([at(cert)?, at(key)?])
}

fn certified(
    cert_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let certified = CertifiedKey::from_der(certificates(cert_file)?, key(key_file)?, provider);
    certified
        .map(Arc::new)
        .map_err(|error| TlsError::Unusable(error.to_string()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_again_when_its_files_change() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            cert_file: folder.path().join("crt"),
            key_file: folder.path().join("key"),
            ..TlsFiles::default()
        };
        let mut age = 1_000;
        let mut write = |cert: &str, key: &str| {
            age -= 1;
            let then = SystemTime::now() - std::time::Duration::from_secs(age);
            for (path, text) in [(&files.cert_file, cert), (&files.key_file, key)] {
                std::fs::write(path, text).unwrap();
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_modified(then).unwrap();
            }
        };
        let make = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (one, other) = (make(), make());
        write(&one.cert.pem(), &one.signing_key.serialize_pem());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let renewed = Renewed::new(&files, provider).unwrap();
        let shows = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            renewed.key().cert[0].as_ref() == made.cert.der().as_ref()
        };
        assert!(shows(&one));
        write(&other.cert.pem(), "");
        assert!(shows(&one), "half written");
        write(&other.cert.pem(), &other.signing_key.serialize_pem());
        assert!(shows(&other));
    }
}
