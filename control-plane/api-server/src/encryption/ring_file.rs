//! The ring as the store holds it: JSON with a version, sealed under a root key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::RING_KEY;
use super::key_ring::{KeyRing, RingKey};
use super::sealing::{OpenError, SECRET_BYTES, SealingKey, parts};
use crate::store::{Entry, Revision};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredKey {
    name: String,
    secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unused_since: Option<Revision>,
}

/// Why a ring cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RingError {
    #[error(transparent)]
    Sealed(#[from] OpenError),
    #[error("{0}")]
    Content(String),
}

/// Seals a ring under the first root key.
pub(super) fn encode(ring: &KeyRing, roots: &[SealingKey]) -> Bytes {
    let keys = ring.keys.iter().map(|k| StoredKey {
        name: k.key.name.clone(),
        secret: STANDARD.encode(k.key.secret()),
        unused_since: k.unused_since,
    });
    let stored = Stored {
        version: VERSION,
        keys: keys.collect(),
    };
    let json = serde_json::to_vec(&stored).expect("a ring is JSON");
    let root = roots.first().expect("a root file holds at least one key");
    root.seal(RING_KEY.as_bytes(), &json)
}

/// Opens the ring with any of the root keys.
pub(super) fn decode(entry: &Entry, roots: &[SealingKey]) -> Result<KeyRing, RingError> {
    let content = |reason: String| RingError::Content(reason);
    let (name, sealed) = parts(&entry.value)?.ok_or_else(|| content("it is not sealed".into()))?;
    let root = roots.iter().find(|root| root.name == name);
    let root = root.ok_or_else(|| OpenError::UnknownKey(name.to_owned()))?;
    let json = root.open(&entry.key, sealed)?;
    let stored: Stored = serde_json::from_slice(&json).map_err(|e| content(e.to_string()))?;
    if stored.version != VERSION {
        return Err(content(format!("it has version {}", stored.version)));
    }
    let keys: Option<Vec<RingKey>> = stored.keys.into_iter().map(key).collect();
    let keys = keys
        .filter(|keys| !keys.is_empty())
        .ok_or_else(|| content("it holds no usable key".into()))?;
    Ok(KeyRing {
        keys,
        revision: entry.mod_revision,
    })
}

fn key(stored: StoredKey) -> Option<RingKey> {
    let secret: [u8; SECRET_BYTES] = STANDARD.decode(stored.secret).ok()?.try_into().ok()?;
    Some(RingKey {
        key: SealingKey::new(stored.name, secret),
        unused_since: stored.unused_since,
    })
}
