//! Encryption at rest: what is secret lies sealed in the store and is plain only in the caches.
//!
//! [`SealedStore`] stands between the API server and its store. It seals the values of the kinds in [`SEALED`] when they
//! are written and opens them when they are read; every other key passes by. The data keys lie in the store themselves,
//! sealed under the root key, which is a file on every master: so all masters have the same data keys at the same
//! revision, and a change of keys is one transaction. Knows nothing of requests.

mod key_ring;
mod ring_file;
mod root;
mod rotation;
mod sealed_store;
mod sealing;

use std::path::PathBuf;

use crate::store::StoreError;

pub(crate) use sealed_store::SealedStore;

/// The root key's file below `DATA_DIR/server`, mode 600, equal on all masters.
pub const ENCRYPTION_KEY_FILE: &str = "encryption.key";

/// Key prefixes whose values are sealed, as Kubernetes recommends at the least.
const SEALED: &[&str] = &["/registry/secrets/"];
/// Where the sealed data keys lie: outside of what the caches read.
const RING_KEY: &str = "/xebec/encryption-keys";

/// Why sealed values cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not usable: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error(
        "the store's secrets are encrypted, but their root key {} is missing: copy it from another master",
        path.display()
    )]
    RootMissing { path: PathBuf },
    #[error("the store's secrets are encrypted under another root key than {} holds: {reason}", path.display())]
    OtherRoot { path: PathBuf, reason: String },
    #[error("the store's encryption keys cannot be read: {0}")]
    Ring(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} secrets are still encrypted under an old key; nothing is lost: rotate again")]
    NotRewritten(usize),
}

/// Whether the value of this key is to be sealed.
fn is_sealed(key: &[u8]) -> bool {
    SEALED
        .iter()
        .any(|prefix| key.starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests;
