//! A certificate authority: its certificate and key, and the leaves that it issues.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::profile::{self, Profile};
use super::{KeyPairPem, PkiError, files};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Authority(Arc<Shared>);

struct Shared {
    /// `NAME.crt` as it is: this authority's certificate, then those that are trusted beside it.
    pem: String,
    trusted: Vec<CertificateDer<'static>>,
    /// What goes out behind each leaf, for those who trust only the CA of before: `NAME-cross.crt`.
    cross: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// `NAME.crt` and `NAME.key`; made if neither is there.
    pub(super) fn load_or_create(
        dir: &Path,
        name: &str,
        common_name: &str,
    ) -> Result<Self, PkiError> {
        let (certificate_path, key_path) = (
            dir.join(format!("{name}.crt")),
            dir.join(format!("{name}.key")),
        );
        let unusable = |reason: String| PkiError::Unusable {
            path: certificate_path.clone(),
            reason,
        };
        let (pem, key_pem) = match (
            files::read_if_there(&certificate_path)?,
            files::read_if_there(&key_path)?,
        ) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                return Err(unusable(format!(
                    "its key {} is missing",
                    key_path.display()
                )));
            }
            // A crash between the two writes leaves a key alone: nothing was signed with it yet.
            (None, _) => create(name, common_name, &certificate_path, &key_path)?,
        };
        let trusted = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let trusted = trusted.map_err(|e| unusable(e.to_string()))?;
        let der = trusted
            .first()
            .ok_or_else(|| unusable("it holds no certificate".into()))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|e| PkiError::Unusable {
            path: key_path.clone(),
            reason: e.to_string(),
        })?;
        check_authority(der, &key).map_err(unusable)?;
        let issuer = Issuer::from_ca_cert_der(der, key).map_err(|e| unusable(e.to_string()))?;
        let cross = files::read_if_there(&dir.join(format!("{name}-cross.crt")))?;
        Ok(Self(Arc::new(Shared {
            pem,
            trusted,
            cross: cross.unwrap_or_default(),
            issuer,
        })))
    }

    /// All that is trusted, this authority's own certificate first.
    pub(super) fn pem(&self) -> &str {
        &self.0.pem
    }

    /// The same in DER.
    pub(super) fn trusted(&self) -> &[CertificateDer<'static>] {
        &self.0.trusted
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.0.trusted[0]
    }

    /// PEM that belongs behind each certificate that this authority issues; mostly empty.
    pub(super) fn cross(&self) -> &str {
        &self.0.cross
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.0.issuer
    }

    /// The subject in DER, as TLS names acceptable authorities.
    pub(super) fn subject(&self) -> Vec<u8> {
        parse(self.der())
            .map(|c| c.subject().as_raw().to_vec())
            .unwrap_or_default()
    }

    /// The leaf of `profile`: the one on disk while it is good, a new one otherwise.
    pub(super) fn ensure(
        &self,
        dir: &Path,
        profile: &Profile,
        now: SystemTime,
    ) -> Result<KeyPairPem, PkiError> {
        let (certificate_path, key_path) = (
            dir.join(format!("{}.crt", profile.file)),
            dir.join(format!("{}.key", profile.file)),
        );
        let now = unix_seconds(now);
        if let (Some(certificate), Some(key)) = (
            files::read_if_there(&certificate_path)?,
            files::read_if_there(&key_path)?,
        ) && self.still_good(profile, &certificate, &key, now)
        {
            return Ok(KeyPairPem { certificate, key });
        }
        let pair = self.issue(profile, now).map_err(|source| PkiError::Issue {
            name: profile.file.clone(),
            source,
        })?;
        files::write(&key_path, pair.key.as_bytes(), files::PRIVATE)?;
        files::write(
            &certificate_path,
            pair.certificate.as_bytes(),
            files::PUBLIC,
        )?;
        Ok(pair)
    }

    fn issue(&self, profile: &Profile, now: u64) -> Result<KeyPairPem, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = profile.params(now)?.signed_by(&key, self.issuer())?;
        Ok(KeyPairPem {
            certificate: certificate.pem() + self.cross(),
            key: key.serialize_pem(),
        })
    }

    fn still_good(&self, profile: &Profile, certificate: &str, key: &str, now: u64) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(certificate.as_bytes()) else {
            return false;
        };
        let (Some(leaf), Some(ca), Ok(key)) =
            (parse(&der), parse(self.der()), KeyPair::from_pem(key))
        else {
            return false;
        };
        let (start, end) = (
            leaf.validity().not_before.timestamp(),
            leaf.validity().not_after.timestamp(),
        );
        let mut names = names(&leaf);
        let mut wanted = profile.sans.clone();
        names.sort();
        wanted.sort();
        let common_name = leaf
            .subject()
            .iter_common_name()
            .next()
            .and_then(|n| n.as_str().ok());
        let organization = leaf
            .subject()
            .iter_organization()
            .next()
            .and_then(|n| n.as_str().ok());
        end - now as i64 > (end - start) / 3
            && names == wanted
            && common_name == Some(&profile.common_name)
            && organization == profile.organization
            && leaf.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && leaf.verify_signature(Some(ca.public_key())).is_ok()
            && behind(certificate).trim() == self.cross().trim()
    }
}

fn create(
    name: &str,
    common_name: &str,
    certificate_path: &Path,
    key_path: &Path,
) -> Result<(String, String), PkiError> {
    let issue = |source| PkiError::Issue {
        name: name.into(),
        source,
    };
    let key = KeyPair::generate().map_err(issue)?;
    let params = profile::authority(common_name, unix_seconds(SystemTime::now()));
    let pem = params.self_signed(&key).map_err(issue)?.pem();
    let key_pem = key.serialize_pem();
    files::write(key_path, key_pem.as_bytes(), files::PRIVATE)?;
    files::write(certificate_path, pem.as_bytes(), files::PUBLIC)?;
    Ok((pem, key_pem))
}

fn check_authority(der: &CertificateDer<'_>, key: &KeyPair) -> Result<(), String> {
    let certificate = parse(der).ok_or("it is not an X.509 certificate")?;
    if !certificate.is_ca() {
        return Err("it is not the certificate of an authority".into());
    }
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err("its key belongs to another certificate".into());
    }
    Ok(())
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der)
        .ok()
        .map(|(_, certificate)| certificate)
}

/// What comes behind the first certificate of a PEM text.
fn behind(pem: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_once(END).map_or("", |(_, behind)| behind)
}

/// The subject's common name.
pub(super) fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let certificate = parse(der)?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => super::signer::address(bytes).map(|a| a.to_string()),
            _ => None,
        })
        .collect()
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
