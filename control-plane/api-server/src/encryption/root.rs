//! The root keys: a file with a line `NAME:BASE64` for each. The first seals the ring, all open it, so that a root key can
//! be changed by putting a new line first, rotating, and taking the old one out.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::EncryptionError;
use super::sealing::{SECRET_BYTES, SealingKey};
use crate::pki::files;

/// The root keys of a file; none if there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<SealingKey>>, EncryptionError> {
    let Some(text) = files::read_if_there(path).map_err(file_error)? else {
        return Ok(None);
    };
    let unusable = |reason: &str| EncryptionError::Unusable {
        path: path.to_owned(),
        reason: reason.into(),
    };
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<SealingKey> = lines
        .map(|line| parse(line).ok_or_else(|| unusable("a line is not NAME:BASE64 of 32 bytes")))
        .collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err(unusable("it holds no key"));
    }
    Ok(Some(keys))
}

/// Makes the file with one new key.
pub(super) fn create(path: &Path) -> Result<Vec<SealingKey>, EncryptionError> {
    let key = SealingKey::random("root1".into());
    let line = format!("{}:{}\n", key.name, STANDARD.encode(key.secret()));
    files::write(path, line.as_bytes(), files::PRIVATE).map_err(file_error)?;
    Ok(vec![key])
}

fn parse(line: &str) -> Option<SealingKey> {
    let (name, secret) = line.split_once(':')?;
    let secret: [u8; SECRET_BYTES] = STANDARD.decode(secret.trim()).ok()?.try_into().ok()?;
    (!name.is_empty()).then(|| SealingKey::new(name.to_owned(), secret))
}

fn file_error(error: crate::pki::PkiError) -> EncryptionError {
    match error {
        crate::pki::PkiError::File {
            action,
            path,
            source,
        } => EncryptionError::File {
            action,
            path,
            source,
        },
        other => EncryptionError::Ring(other.to_string()),
    }
}
