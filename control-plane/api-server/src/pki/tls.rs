//! TLS of the API's port: a serving certificate that can be replaced while it is used, and a client certificate that is
//! only proven to belong to the peer here (who it stands for is `client_trust`'s matter).

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::{KeyPairPem, PkiError};

/// The certificate of the moment, for serving or as a client.
#[derive(Clone, Debug)]
pub(super) struct LiveCertificate(Arc<ArcSwap<CertifiedKey>>);

impl LiveCertificate {
    pub(super) fn new(pair: &KeyPairPem) -> Result<Self, PkiError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(certified_key(pair)?))))
    }

    /// New connections get this one.
    pub(super) fn replace(&self, pair: &KeyPairPem) -> Result<(), PkiError> {
        self.0.store(Arc::new(certified_key(pair)?));
        Ok(())
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for LiveCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The CAs of the moment, by which servers are judged.
#[derive(Clone, Debug)]
pub(super) struct LiveRoots(Arc<ArcSwap<WebPkiServerVerifier>>);

impl LiveRoots {
    pub(super) fn new(cas: &[CertificateDer<'_>]) -> Result<Self, PkiError> {
        Ok(Self(Arc::new(ArcSwap::new(server_verifier(cas)?))))
    }

    /// New connections are judged by these.
    pub(super) fn replace(&self, cas: &[CertificateDer<'_>]) -> Result<(), PkiError> {
        self.0.store(server_verifier(cas)?);
        Ok(())
    }
}

fn server_verifier(cas: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, PkiError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone().into_owned())?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| PkiError::Tls(rustls::Error::General(e.to_string())))
}

impl ServerCertVerifier for LiveRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let current = self.0.load();
        current.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let current = self.0.load();
        current.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let current = self.0.load();
        current.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().supported_verify_schemes()
    }
}

/// How the API server connects to others of the cluster: trusting `roots` only, showing `identity`.
pub(super) fn client_config(
    roots: &LiveRoots,
    identity: &LiveCertificate,
) -> Result<Arc<ClientConfig>, PkiError> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(roots.clone()))
        .with_client_cert_resolver(Arc::new(identity.clone()));
    Ok(Arc::new(config))
}

fn certified_key(pair: &KeyPairPem) -> Result<CertifiedKey, PkiError> {
    let pem =
        |e: rustls::pki_types::pem::Error| PkiError::Tls(rustls::Error::General(e.to_string()));
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(pem)?;
    Ok(CertifiedKey::new(
        chain,
        aws_lc_rs::sign::any_supported_type(&key)?,
    ))
}

/// The configuration of the listener; `hints` are the subjects of the authorities whose certificates are of use here.
pub(super) fn server_config(
    serving: &LiveCertificate,
    hints: Vec<Vec<u8>>,
) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = ProofOfPossession {
        provider: provider.clone(),
        hints: hints.into_iter().map(DistinguishedName::from).collect(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(serving.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A listener whose clients must show a certificate of `ca`.
pub(super) fn mutual_server_config(
    serving: &LiveCertificate,
    ca: &CertificateDer<'_>,
) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = verifier.map_err(|e| PkiError::Tls(rustls::Error::General(e.to_string())))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(serving.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts any certificate whose key the peer holds: as upstream, a client with an unknown or expired certificate is
/// answered with 401, or goes by its bearer token, instead of failing in the handshake.
#[derive(Debug)]
struct ProofOfPossession {
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for ProofOfPossession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
