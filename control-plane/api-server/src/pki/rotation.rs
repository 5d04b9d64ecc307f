//! What a change of the cluster's CA or of the service-account key makes of their files. Pure: from texts to texts.
//!
//! A new CA has the subject of the old one, and a certificate of its key that the old one signed goes out with all that it
//! issues: whoever trusts only the old CA believes the new one's certificates at once. Both lie in `ca.crt` from the first
//! moment until the change is finished, so nothing that was issued before stops being good, in whatever order masters,
//! nodes and kubeconfigs take the change in.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::authority::{common_name, unix_seconds};
use super::{PkiError, profile};

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
/// The new CA's key, certified by the old CA; there while a change is under way.
pub(super) const CA_CROSS: &str = "ca-cross.crt";
/// The old CA's key, with which the change can be reverted.
const CA_FORMER_KEY: &str = "ca-former.key";
/// CAs that are trusted no more. Tokens that are kept for ever name the cluster by them.
pub const CA_RETIRED: &str = "ca-retired.crt";
const TOKEN_KEY: &str = "sa.key";
const TOKEN_PUBLIC_KEYS: &str = "sa.pub";
pub(super) const TOKEN_FORMER_KEY: &str = "sa-former.key";

/// All files, below the TLS directory, that a change may make, replace or take away.
pub const ROTATED_FILES: [&str; 8] = [
    CA,
    CA_KEY,
    CA_CROSS,
    CA_FORMER_KEY,
    CA_RETIRED,
    TOKEN_KEY,
    TOKEN_PUBLIC_KEYS,
    TOKEN_FORMER_KEY,
];

/// The texts of [`ROTATED_FILES`] that are there, by name.
pub type RotatedFiles = BTreeMap<String, String>;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The cluster's CA, which signs the certificates of API servers, clients and nodes.
    Ca,
    /// The key that signs service-account tokens.
    ServiceAccountKey,
}

/// How far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// A new one issues from now on; the old one stays good.
    Begin,
    /// The old one issues again; the new one stays good.
    Revert,
    /// Only the one that issues is good.
    Finish,
}

/// Why a step is not possible.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("a change is under way: finish or revert it first")]
    UnderWay,
    #[error("no change is under way")]
    NotUnderWay,
    #[error("this change was reverted already: finish it")]
    Reverted,
    #[error("the file {0} is missing")]
    Missing(&'static str),
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// The files after the step.
///
/// # Errors
/// When the step is not possible now; nothing is changed then.
pub fn rotate(
    files: &RotatedFiles,
    what: Rotated,
    step: RotationStep,
    now: SystemTime,
) -> Result<RotatedFiles, RotationError> {
    let mut files = files.clone();
    match what {
        Rotated::Ca => rotate_ca(&mut files, step, now)?,
        Rotated::ServiceAccountKey => rotate_token_key(&mut files, step)?,
    }
    Ok(files)
}

fn get<'f>(files: &'f RotatedFiles, name: &'static str) -> Result<&'f str, RotationError> {
    let text = files.get(name).map(String::as_str);
    text.ok_or(RotationError::Missing(name))
}

fn rotate_ca(
    files: &mut RotatedFiles,
    step: RotationStep,
    now: SystemTime,
) -> Result<(), RotationError> {
    let trusted = certificates(get(files, CA)?);
    let under_way = trusted.len() > 1;
    match step {
        RotationStep::Begin if under_way => return Err(RotationError::UnderWay),
        RotationStep::Begin => begin_ca(files, now)?,
        _ if !under_way => return Err(RotationError::NotUnderWay),
        RotationStep::Revert => {
            let key = files.remove(CA_FORMER_KEY).ok_or(RotationError::Reverted)?;
            files.insert(CA_KEY.to_owned(), key);
            files.remove(CA_CROSS);
            let old_first: String = trusted.iter().rev().map(String::as_str).collect();
            files.insert(CA.to_owned(), old_first);
        }
        RotationStep::Finish => {
            files.remove(CA_CROSS);
            files.remove(CA_FORMER_KEY);
            let retired = files.entry(CA_RETIRED.to_owned()).or_default();
            retired.extend(trusted[1..].iter().map(String::as_str));
            files.insert(CA.to_owned(), trusted[0].clone());
        }
    }
    Ok(())
}

fn begin_ca(files: &mut RotatedFiles, now: SystemTime) -> Result<(), RotationError> {
    let (old, old_key) = (get(files, CA)?.to_owned(), get(files, CA_KEY)?.to_owned());
    let made = || -> Result<(KeyPair, String, String), rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&old, KeyPair::from_pem(&old_key)?)?;
        let key = KeyPair::generate()?;
        let name = CertificateDer::from_pem_slice(old.as_bytes());
        let name = name.ok().and_then(|der| common_name(&der));
        let name = name.ok_or(rcgen::Error::CouldNotParseCertificate)?;
        let own = profile::authority(&name, unix_seconds(now));
        let mut cross = profile::authority(&name, unix_seconds(now));
        cross.use_authority_key_identifier_extension = true;
        let (own, cross) = (own.self_signed(&key)?, cross.signed_by(&key, &issuer)?);
        Ok((key, own.pem(), cross.pem()))
    };
    let (key, own, cross) = made().map_err(|source| issue("ca", source))?;
    files.insert(CA.to_owned(), format!("{own}{old}"));
    files.insert(CA_KEY.to_owned(), key.serialize_pem());
    files.insert(CA_CROSS.to_owned(), cross);
    files.insert(CA_FORMER_KEY.to_owned(), old_key);
    Ok(())
}

fn rotate_token_key(files: &mut RotatedFiles, step: RotationStep) -> Result<(), RotationError> {
    let current = get(files, TOKEN_KEY)?.to_owned();
    let former = files.get(TOKEN_FORMER_KEY).cloned();
    let (current, former) = match (step, former) {
        (RotationStep::Begin, Some(_)) => return Err(RotationError::UnderWay),
        (RotationStep::Begin, None) => {
            let key = KeyPair::generate().map_err(|source| issue("sa", source))?;
            (key.serialize_pem(), Some(current))
        }
        (_, None) => return Err(RotationError::NotUnderWay),
        (RotationStep::Revert, Some(former)) => (former, Some(current)),
        (RotationStep::Finish, Some(_)) => (current, None),
    };
    let mut public = String::new();
    for pem in [Some(&current), former.as_ref()].into_iter().flatten() {
        let key = KeyPair::from_pem(pem).map_err(|source| issue("sa", source))?;
        public += &key.public_key_pem();
    }
    files.insert(TOKEN_PUBLIC_KEYS.to_owned(), public);
    files.insert(TOKEN_KEY.to_owned(), current);
    match former {
        Some(former) => files.insert(TOKEN_FORMER_KEY.to_owned(), former),
        None => files.remove(TOKEN_FORMER_KEY),
    };
    Ok(())
}

fn issue(name: &str, source: rcgen::Error) -> PkiError {
    PkiError::Issue {
        name: name.to_owned(),
        source,
    }
}

/// The certificates of a PEM text, each as the text it was.
pub fn certificates(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = pem.split_inclusive(END).filter(|part| part.contains(END));
    parts.map(|part| format!("{}\n", part.trim())).collect()
}

/// Whose CA a certificate or key is, in as many digits as people compare.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex::encode(&Sha256::digest(der)[..8])
}

#[cfg(test)]
mod tests;
