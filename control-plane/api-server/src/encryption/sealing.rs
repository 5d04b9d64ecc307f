//! One named AES-256-GCM key, and the form in which Kubernetes writes a sealed value:
//! `k8s:enc:aesgcm:v1:NAME:` and then nonce, ciphertext and tag. The store's key is authenticated with the value, so that a
//! sealed value means nothing under another key.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;

/// What every sealed value begins with, whatever sealed it.
const SEALED_MARK: &[u8] = b"k8s:enc:";
const PREFIX: &[u8] = b"k8s:enc:aesgcm:v1:";
pub(super) const SECRET_BYTES: usize = 32;

/// A key that seals and opens.
pub(super) struct SealingKey {
    pub(super) name: String,
    secret: [u8; SECRET_BYTES],
    aead: LessSafeKey,
}

/// Why a sealed value cannot be opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    #[error("it is encrypted under the key {0:?}, which is not known")]
    UnknownKey(String),
    #[error("it is not what was written here: moved, changed or damaged")]
    NotAuthentic,
    #[error("it is encrypted in a form that is not supported")]
    OtherForm,
}

impl SealingKey {
    pub(super) fn new(name: String, secret: [u8; SECRET_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &secret).expect("a key of 32 bytes");
        Self {
            name,
            secret,
            aead: LessSafeKey::new(key),
        }
    }

    pub(super) fn random(name: String) -> Self {
        Self::new(name, rand::random())
    }

    pub(super) fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// Seals `plain` for the place `key` under a fresh random nonce.
    pub(super) fn seal(&self, key: &[u8], plain: &[u8]) -> Bytes {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let head = PREFIX.len() + self.name.len() + 1 + NONCE_LEN;
        let mut sealed = Vec::with_capacity(head + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(PREFIX);
        sealed.extend_from_slice(self.name.as_bytes());
        sealed.push(b':');
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .aead
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key),
                &mut sealed[head..],
            )
            .expect("values are far below the cipher's limit");
        sealed.extend_from_slice(tag.as_ref());
        sealed.into()
    }

    /// Opens what lies behind the name.
    pub(super) fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Bytes, OpenError> {
        let (nonce, body) = sealed
            .split_at_checked(NONCE_LEN)
            .ok_or(OpenError::NotAuthentic)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::NotAuthentic)?;
        let mut body = body.to_vec();
        let plain = self
            .aead
            .open_in_place(nonce, Aad::from(key), &mut body)
            .map_err(|_| OpenError::NotAuthentic)?
            .len();
        body.truncate(plain);
        Ok(body.into())
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The name of the key that sealed a value and what lies behind it; none for a plain value.
///
/// # Errors
/// When it is sealed by a means that is not known here.
pub(super) fn parts(value: &[u8]) -> Result<Option<(&str, &[u8])>, OpenError> {
    if !value.starts_with(SEALED_MARK) {
        return Ok(None);
    }
    let rest = value.strip_prefix(PREFIX).ok_or(OpenError::OtherForm)?;
    let end = memchr::memchr(b':', rest).ok_or(OpenError::OtherForm)?;
    let name = std::str::from_utf8(&rest[..end]).map_err(|_| OpenError::OtherForm)?;
    Ok(Some((name, &rest[end + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_in_its_place_only() {
        let key = SealingKey::random("key1".into());
        let sealed = key.seal(b"/registry/secrets/a/b", b"plain");
        assert!(sealed.starts_with(b"k8s:enc:aesgcm:v1:key1:"));
        let (name, rest) = parts(&sealed).expect("known").expect("sealed");
        assert_eq!(name, "key1");
        let open = |place: &[u8], bytes: &[u8]| key.open(place, bytes);
        assert_eq!(open(b"/registry/secrets/a/b", rest).expect("open"), "plain");
        assert_eq!(
            open(b"/registry/secrets/a/c", rest),
            Err(OpenError::NotAuthentic)
        );
        for cut in 0..rest.len() {
            assert_eq!(
                open(b"/registry/secrets/a/b", &rest[..cut]),
                Err(OpenError::NotAuthentic)
            );
        }
        let again = key.seal(b"/registry/secrets/a/b", b"plain");
        assert_ne!(sealed, again, "every nonce is fresh");
    }

    #[test]
    fn the_form_is_upstreams() {
        // By another implementation: the key 00..1f, the nonce 00..0b, then ciphertext and tag.
        let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
        let key = SealingKey::new("k".into(), secret);
        let nonce: [u8; NONCE_LEN] = std::array::from_fn(|i| i as u8);
        let body = hex::decode("376eb772abd70827c043a61a7e3c62a5866e0f8d21").expect("hex");
        let value = [b"k8s:enc:aesgcm:v1:k:".as_slice(), &nonce, &body].concat();
        let (name, rest) = parts(&value).expect("known").expect("sealed");
        assert_eq!(name, "k");
        let plain = key.open(b"/registry/secrets/a/b", rest);
        assert_eq!(plain.expect("opens"), "plain");
        assert_eq!(parts(b"{\"kind\":\"Secret\"}"), Ok(None));
        assert_eq!(
            parts(b"k8s:enc:secretbox:v1:k:x"),
            Err(OpenError::OtherForm)
        );
    }
}
