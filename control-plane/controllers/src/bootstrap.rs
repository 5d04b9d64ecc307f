//! Bootstrap tokens, by which new nodes join: `signer` lets whoever has a token trust `cluster-info`, `cleaner` deletes
//! tokens that have expired. Here: what both read from a token's Secret.

mod cleaner;
mod signer;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;

pub(crate) use cleaner::start as start_cleaner;
pub(crate) use signer::start as start_signer;

use crate::support::Meta;

const TOKEN_NAMESPACE: &str = "kube-system";
const TOKEN_TYPE: &str = "bootstrap.kubernetes.io/token";

fn is_token(secret: &Secret) -> bool {
    secret.namespace() == TOKEN_NAMESPACE && secret.type_.as_deref() == Some(TOKEN_TYPE)
}

/// One entry of a Secret; empty where there is none.
fn data<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    value
        .and_then(|value| std::str::from_utf8(&value.0).ok())
        .unwrap_or_default()
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Never,
    At(Timestamp),
    /// What is written there is no time: as upstream, such a token has expired.
    Unreadable,
}

fn expiry(secret: &Secret) -> Expiry {
    match data(secret, "expiration") {
        "" => Expiry::Never,
        text => text.parse().map_or(Expiry::Unreadable, Expiry::At),
    }
}

fn has_expired(secret: &Secret, now: Timestamp) -> bool {
    match expiry(secret) {
        Expiry::Never => false,
        Expiry::At(end) => end <= now,
        Expiry::Unreadable => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn what_cannot_be_read_has_expired() {
        let now = Timestamp::from_second(1000).expect("a time");
        let check = |text: &str, expect| {
            let mut secret = Secret::default();
            let value = ByteString(text.as_bytes().to_vec());
            secret
                .data
                .get_or_insert_default()
                .insert("expiration".into(), value);
            assert_eq!(has_expired(&secret, now), expect, "{text}");
        };
        check("", false);
        check("1970-01-01T00:16:41Z", false);
        check("1970-01-01T00:16:40Z", true);
        check("1970-01-01T01:16:41+01:00", false);
        check("tomorrow", true);
    }
}
