//! Sealing under a token's secret: AES-256-GCM with a key that PBKDF2 derives. Pure but for the salt and the nonce.

use std::num::NonZeroU32;

use anyhow::{Context, Result, anyhow, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::pbkdf2;
use rand::Rng;

/// The first byte of what is sealed in the way of this file.
const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
/// A token's secret holds 82 random bits, so this need not be many.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).expect("it is not zero");
/// Says what was sealed, so that nothing else is taken for it.
const PURPOSE: &[u8] = b"xebec masters bundle";

/// `VERSION | salt | nonce | ciphertext and tag`
pub fn seal(secret: &str, plain: &[u8]) -> Result<Vec<u8>> {
    let mut salt = [0; SALT_BYTES];
    rand::rng().fill(&mut salt);
    let mut data = plain.to_vec();
    let nonce = key(secret, &salt)?
        .seal_in_place_append_tag(Aad::from(PURPOSE), &mut data)
        .map_err(|_| anyhow!("sealing failed"))?;
    let mut sealed = vec![VERSION];
    sealed.extend(salt);
    sealed.extend(nonce.as_ref());
    sealed.extend(data);
    Ok(sealed)
}

/// What was sealed, if the secret is the same.
pub fn open(secret: &str, sealed: &[u8]) -> Result<Vec<u8>> {
    let (version, rest) = sealed.split_first().context("nothing was sealed")?;
    ensure!(
        *version == VERSION,
        "it was sealed by another version of this program"
    );
    let parts = rest
        .split_at_checked(SALT_BYTES)
        .and_then(|(salt, rest)| Some((salt, rest.split_at_checked(NONCE_LEN)?)));
    let (salt, (nonce, data)) = parts.context("it is cut off")?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| anyhow!("it is cut off"))?;
    let mut data = data.to_vec();
    let plain = key(secret, salt)?
        .open_in_place(nonce, Aad::from(PURPOSE), &mut data)
        .map_err(|_| anyhow!("it was sealed under another token"))?;
    Ok(plain.to_vec())
}

fn key(secret: &str, salt: &[u8]) -> Result<RandomizedNonceKey> {
    let mut key = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ITERATIONS,
        salt,
        secret.as_bytes(),
        &mut key,
    );
    RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| anyhow!("no key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_opens() {
        let sealed = seal("0123456789abcdef", b"keys").expect("sealed");
        assert_eq!(open("0123456789abcdef", &sealed).expect("opened"), b"keys");
        assert!(!sealed.windows(4).any(|part| part == b"keys"));
        let again = seal("0123456789abcdef", b"keys").expect("sealed");
        assert_ne!(sealed, again);
        let check = |secret: &str, sealed: &[u8], expect: &str| {
            let error = open(secret, sealed).expect_err("refused").to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("0123456789abcdee", &sealed, "another token");
        let mut changed = sealed.clone();
        *changed.last_mut().expect("a byte") ^= 1;
        check("0123456789abcdef", &changed, "another token");
        check("0123456789abcdef", &sealed[..20], "cut off");
        check("0123456789abcdef", &[], "nothing");
        check("0123456789abcdef", &[9, 9], "another version");
    }
}
