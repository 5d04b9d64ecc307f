//! The token that nodes join with: `K10HASH::ID.SECRET`. The hash says which cluster to trust, the rest is a bootstrap
//! token as every Kubernetes knows it. k3s writes its tokens in the same form.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use rand::Rng;

/// Says which form the token has.
const PREFIX: &str = "K10";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A whole token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the public key of the cluster's CA.
    pub ca_hash: [u8; 32],
    pub bootstrap: BootstrapToken,
}

/// `ID.SECRET`
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    pub id: String,
    pub secret: String,
}

impl BootstrapToken {
    pub fn random() -> Self {
        let mut random = rand::rng();
        let mut word = |length: usize| -> String {
            (0..length)
                .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
                .collect()
        };
        Self {
            id: word(ID_LENGTH),
            secret: word(SECRET_LENGTH),
        }
    }
}

/// Whether this is the id of a bootstrap token.
pub fn is_id(text: &str) -> bool {
    is_word(text, ID_LENGTH)
}

fn is_word(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| LETTERS.contains(&b))
}

impl FromStr for BootstrapToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('.');
        let (id, secret) = parts
            .filter(|(id, secret)| is_id(id) && is_word(secret, SECRET_LENGTH))
            .context("the token must end with six letters or digits, a dot and sixteen more")?;
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let whole = "use the whole line that `xebec token create` printed";
        let (hash, bootstrap) = text
            .trim()
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once("::"))
            .with_context(|| format!("the token does not say which cluster to trust: {whole}"))?;
        let mut ca_hash = [0; 32];
        let decoded = hex::decode_to_slice(hash, &mut ca_hash);
        ensure!(
            decoded.is_ok(),
            "the hash in the token is not 64 hexadecimal digits: {whole}"
        );
        let bootstrap = bootstrap.parse().context(whole)?;
        Ok(Self { ca_hash, bootstrap })
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{}::{}",
            hex::encode(self.ca_hash),
            self.bootstrap
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let token = JoinToken {
            ca_hash: [7; 32],
            bootstrap: BootstrapToken::random(),
        };
        assert!(token.to_string().parse::<JoinToken>().unwrap() == token);
    }

    #[test]
    fn what_is_no_token_is_told_why() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<JoinToken>().err().expect("no token");
            assert!(format!("{error:#}").contains(expect), "{text}: {error:#}");
        };
        check("abcdef.0123456789abcdef", "which cluster to trust");
        check("K10ab::abcdef.0123456789abcdef", "64 hexadecimal digits");
        let hash = "0".repeat(64);
        check(&format!("K10{hash}::abc.def"), "sixteen");
        check(&format!("K10{hash}::ABCDEF.0123456789abcdef"), "sixteen");
    }
}
