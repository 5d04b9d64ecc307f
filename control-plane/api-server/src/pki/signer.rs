//! Signing of certificate requests with the cluster CA, for the CSR controllers: plain functions on PEM text.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::authority::{Authority, unix_seconds};
use super::{PkiError, profile};

/// What a certificate may be used for; `spec.usages` of a CertificateSigningRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateUsage {
    DigitalSignature,
    KeyEncipherment,
    KeyAgreement,
    ClientAuth,
    ServerAuth,
}

impl CertificateUsage {
    /// By its name in the API, e.g. `client auth`; none for a usage that the cluster CA does not give.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "digital signature" => Self::DigitalSignature,
            "key encipherment" => Self::KeyEncipherment,
            "key agreement" => Self::KeyAgreement,
            "client auth" => Self::ClientAuth,
            "server auth" => Self::ServerAuth,
            _ => return None,
        })
    }
}

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct SignRequest<'a> {
    /// PKCS#10 in PEM.
    pub csr_pem: &'a str,
    pub usages: &'a [CertificateUsage],
    pub lifetime: Duration,
}

/// What a certificate request asks for. Its own signature has been verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrSummary {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub email_addresses: Vec<String>,
    pub uris: Vec<String>,
}

/// The cluster CA as a signer. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    authority: Authority,
}

impl Signer {
    pub(super) fn new(authority: Authority) -> Self {
        Self { authority }
    }

    /// The CA's certificate in PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Signs; answers the certificate in PEM. Subject and names are the request's, everything else is ours.
    pub fn sign_client_csr(
        &self,
        request: &SignRequest<'_>,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        let invalid = |e: rcgen::Error| PkiError::Request(e.to_string());
        let mut csr =
            CertificateSigningRequestParams::from_pem(request.csr_pem).map_err(invalid)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = csr.params.distinguished_name.clone();
        params.subject_alt_names = csr.params.subject_alt_names.clone();
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        for usage in request.usages {
            match usage {
                CertificateUsage::DigitalSignature => {
                    params.key_usages.push(KeyUsagePurpose::DigitalSignature)
                }
                CertificateUsage::KeyEncipherment => {
                    params.key_usages.push(KeyUsagePurpose::KeyEncipherment)
                }
                CertificateUsage::KeyAgreement => {
                    params.key_usages.push(KeyUsagePurpose::KeyAgreement)
                }
                CertificateUsage::ClientAuth => {
                    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth)
                }
                CertificateUsage::ServerAuth => {
                    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth)
                }
            }
        }
        profile::set_validity(&mut params, unix_seconds(now), request.lifetime);
        csr.params = params;
        Ok(csr
            .signed_by(self.authority.issuer())
            .map_err(invalid)?
            .pem())
    }
}

/// Reads a PKCS#10 request in PEM and verifies that it was signed with the key that it names.
pub fn parse_csr(pem: &[u8]) -> Result<CsrSummary, PkiError> {
    let invalid = |reason: &str| PkiError::Request(reason.to_owned());
    let (_, block) =
        parse_x509_pem(pem).map_err(|_| invalid("PEM block type must be CERTIFICATE REQUEST"))?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(invalid("PEM block type must be CERTIFICATE REQUEST"));
    }
    let (_, csr) =
        X509CertificationRequest::from_der(&block.contents).map_err(|e| invalid(&e.to_string()))?;
    csr.verify_signature()
        .map_err(|_| invalid("the signature does not match the public key"))?;
    let subject = &csr.certification_request_info.subject;
    let mut summary = CsrSummary {
        common_name: subject
            .iter_common_name()
            .next()
            .and_then(|n| n.as_str().ok())
            .unwrap_or_default()
            .into(),
        organizations: subject
            .iter_organization()
            .filter_map(|n| n.as_str().ok().map(String::from))
            .collect(),
        ..CsrSummary::default()
    };
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => summary.dns_names.push((*name).into()),
                GeneralName::IPAddress(bytes) => summary.ip_addresses.extend(address(bytes)),
                GeneralName::RFC822Name(name) => summary.email_addresses.push((*name).into()),
                GeneralName::URI(uri) => summary.uris.push((*uri).into()),
                _ => {}
            }
        }
    }
    Ok(summary)
}

/// An address of a certificate: 4 or 16 bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
