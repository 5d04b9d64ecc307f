//! Which client certificates are trusted, and what they say. Asked once per connection; the answer is kept with it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::PkiError;

/// What a client's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// End of its validity, seconds since 1970.
    pub not_after: i64,
    /// SHA-256 of the DER, in hexadecimal.
    pub fingerprint: String,
}

/// How a connection's peer has shown itself in TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PeerCertificate {
    /// It has not.
    #[default]
    None,
    /// With a certificate of neither authority, or one that is not valid.
    Untrusted(String),
    /// As a client of the cluster.
    Client(Arc<ClientCertificate>),
    /// As a front proxy, which may speak for others.
    FrontProxy(Arc<ClientCertificate>),
}

/// Verifies client certificates against the two authorities. Cheap to clone.
#[derive(Clone)]
pub struct ClientTrust {
    /// Replaced when the CA is changed.
    client: Arc<ArcSwap<Trusted>>,
    front_proxy: Arc<dyn ClientCertVerifier>,
}

/// What is trusted from one change to the next.
struct Trusted {
    generation: u64,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    pub(super) fn new(
        client_cas: &[CertificateDer<'_>],
        front_proxy_cas: &[CertificateDer<'_>],
    ) -> Result<Self, PkiError> {
        Ok(Self {
            client: Arc::new(ArcSwap::from_pointee(Trusted {
                generation: 0,
                verifier: verifier(client_cas)?,
            })),
            front_proxy: verifier(front_proxy_cas)?,
        })
    }

    /// From now on certificates of these are trusted.
    pub(super) fn replace(&self, client_cas: &[CertificateDer<'_>]) -> Result<(), PkiError> {
        let verifier = verifier(client_cas)?;
        self.client.rcu(|held| Trusted {
            generation: held.generation + 1,
            verifier: verifier.clone(),
        });
        Ok(())
    }

    /// Another one each time that other CAs are trusted: what was judged before it is to be judged again.
    pub fn generation(&self) -> u64 {
        self.client.load().generation
    }

    /// Judges the chain that a peer presented (leaf first) at the time `now`.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> PeerCertificate {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return PeerCertificate::None;
        };
        let Some(certificate) = describe(leaf) else {
            return PeerCertificate::Untrusted("the certificate cannot be parsed".into());
        };
        if self
            .front_proxy
            .verify_client_cert(leaf, intermediates, now)
            .is_ok()
        {
            return PeerCertificate::FrontProxy(Arc::new(certificate));
        }
        let client = self.client.load();
        let verifier = &client.verifier;
        match verifier.verify_client_cert(leaf, intermediates, now) {
            Ok(_) => PeerCertificate::Client(Arc::new(certificate)),
            Err(error) => PeerCertificate::Untrusted(error.to_string()),
        }
    }
}

fn verifier(cas: &[CertificateDer<'_>]) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone().into_owned())?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| PkiError::Tls(rustls::Error::General(e.to_string())))
}

fn describe(leaf: &CertificateDer<'_>) -> Option<ClientCertificate> {
    use sha2::Digest;
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let subject = certificate.subject();
    Some(ClientCertificate {
        common_name: subject
            .iter_common_name()
            .next()
            .and_then(|n| n.as_str().ok())
            .unwrap_or_default()
            .to_owned(),
        organizations: subject
            .iter_organization()
            .filter_map(|n| n.as_str().ok().map(String::from))
            .collect(),
        not_after: certificate.validity().not_after.timestamp(),
        fingerprint: hex::encode(sha2::Sha256::digest(leaf)),
    })
}
