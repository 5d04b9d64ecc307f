//! rustls configurations from PEM: the agent's client side and its listener. Knows certificates and nothing else.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::{Identity, Pem};
use crate::error::AgentError;

fn identity_error(what: &str) -> impl Fn(&dyn std::fmt::Display) -> AgentError {
    let what = what.to_string();
    move |e| AgentError::Identity(format!("{what}: {e}"))
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, AgentError> {
    let bad = identity_error("certificate");
    let text = pem.read().map_err(|e| bad(&e))?;
    let list = rustls_pemfile::certs(&mut text.as_slice())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(&e))?;
    if list.is_empty() {
        return Err(bad(&"no CERTIFICATE in the PEM data"));
    }
    Ok(list)
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, AgentError> {
    let bad = identity_error("private key");
    let text = pem.read().map_err(|e| bad(&e))?;
    rustls_pemfile::private_key(&mut text.as_slice())
        .map_err(|e| bad(&e))?
        .ok_or_else(|| bad(&"no PRIVATE KEY in the PEM data"))
}

fn roots(ca: &Pem) -> Result<RootCertStore, AgentError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(ca)? {
        store
            .add(certificate)
            .map_err(|e| identity_error("CA")(&e))?;
    }
    Ok(store)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The agent as a client: trusts `ca` alone, shows `identity`, prefers HTTP/2.
pub(crate) fn client_config(ca: &Pem, identity: &Identity) -> Result<ClientConfig, AgentError> {
    let bad = identity_error("client identity");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&e))?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(certificates(&identity.cert)?, private_key(&identity.key)?)
        .map_err(|e| bad(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The agent as a server: a client certificate is checked against `client_ca` where one is shown; a bearer token may take its
/// place, so none is required here.
pub(crate) fn server_config(
    identity: &Identity,
    client_ca: &Pem,
) -> Result<ServerConfig, AgentError> {
    let bad = identity_error("serving identity");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca)?), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| bad(&e))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&identity.cert)?, private_key(&identity.key)?)
        .map_err(|e| bad(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A client that trusts every certificate: what probes of a pod's own HTTPS port do.
pub(crate) fn unverified_client_config() -> ClientConfig {
    let verifier = Arc::new(unverified::TrustAll(provider()));
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

mod unverified {
    //! A verifier that accepts any certificate but still checks that the peer holds its key.

    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct TrustAll(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for TrustAll {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(
                message,
                certificate,
                signature,
                &self.0.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(
                message,
                certificate,
                signature,
                &self.0.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
