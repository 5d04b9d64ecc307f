//! What the CA and the service-account key are at the moment, for people.

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Pki;
use super::rotation::fingerprint;

/// As [`Pki::rotation`] tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The one that signs first.
    pub authorities: Vec<AuthorityStatus>,
    /// The one that signs first.
    pub service_account_keys: Vec<TokenKeyStatus>,
}

/// A CA that is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    /// The beginning of the SHA-256 of its public key, as tokens name it.
    pub id: String,
    /// `Active` signs, `Trusted` is only believed.
    pub state: &'static str,
    /// The end of its validity, seconds since 1970.
    pub not_after: i64,
}

/// A key whose service-account tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenKeyStatus {
    /// The beginning of the SHA-256 of its public half.
    pub id: String,
    pub state: &'static str,
}

pub(super) fn of(pki: &Pki) -> RotationStatus {
    let ca = pki.0.ca.load();
    let authorities = ca.trusted().iter().enumerate();
    let authorities = authorities.filter_map(|(at, der)| authority(at, der));
    let keys = pki.0.token_keys.public_keys();
    let keys = keys.iter().enumerate().map(|(at, public)| TokenKeyStatus {
        id: fingerprint(public),
        state: state(at),
    });
    RotationStatus {
        authorities: authorities.collect(),
        service_account_keys: keys.collect(),
    }
}

fn authority(at: usize, der: &CertificateDer<'_>) -> Option<AuthorityStatus> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(AuthorityStatus {
        id: fingerprint(certificate.public_key().raw),
        state: state(at),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

fn state(at: usize) -> &'static str {
    if at == 0 { "Active" } else { "Trusted" }
}
