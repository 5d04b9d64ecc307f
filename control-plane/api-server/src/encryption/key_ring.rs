//! The data keys: the first one seals, all open. An old one is kept until no revision that can still be read needs it.
//!
//! Pure: what a ring says about values, and which ring follows on which.

use bytes::Bytes;

use super::sealing::{OpenError, SealingKey, parts};
use crate::store::Revision;

/// One key of the ring.
#[derive(Debug)]
pub(super) struct RingKey {
    pub(super) key: SealingKey,
    /// From this revision on no value is sealed under it; none while there may be some.
    pub(super) unused_since: Option<Revision>,
}

/// All keys at one revision of the store.
#[derive(Debug)]
pub(super) struct KeyRing {
    /// Never empty.
    pub(super) keys: Vec<RingKey>,
    /// The modification revision of the ring itself.
    pub(super) revision: Revision,
}

impl KeyRing {
    /// A new cluster's.
    pub(super) fn first() -> Self {
        Self {
            keys: vec![fresh(1)],
            revision: 0,
        }
    }

    /// The key that seals.
    pub(super) fn sealing(&self) -> &SealingKey {
        &self
            .keys
            .first()
            .expect("a ring holds at least one key")
            .key
    }

    /// The plain value; a plain one as it is.
    pub(super) fn open(&self, key: &[u8], value: &Bytes) -> Result<Bytes, OpenError> {
        let Some((name, sealed)) = parts(value)? else {
            return Ok(value.clone());
        };
        let known = self.keys.iter().find(|k| k.key.name == name);
        known
            .ok_or_else(|| OpenError::UnknownKey(name.to_owned()))?
            .key
            .open(key, sealed)
    }

    /// Whether a stored value is as it would be written now.
    pub(super) fn is_current(&self, value: &[u8]) -> bool {
        matches!(parts(value), Ok(Some((name, _))) if name == self.sealing().name)
    }

    /// Whether values may still be sealed under an older key.
    pub(super) fn is_rotating(&self) -> bool {
        self.keys[1..].iter().any(|k| k.unused_since.is_none())
    }

    /// With a new key in front.
    pub(super) fn with_new_key(mut self) -> Self {
        let number = |k: &RingKey| k.key.name.strip_prefix("key")?.parse::<u64>().ok();
        let last = self.keys.iter().filter_map(number).max().unwrap_or(0);
        self.keys.insert(0, fresh(last + 1));
        self
    }

    /// With every key but the first unused since `revision`, where it was not before.
    pub(super) fn with_old_keys_unused(mut self, revision: Revision) -> Self {
        for old in &mut self.keys[1..] {
            old.unused_since.get_or_insert(revision);
        }
        self
    }

    /// Without the keys that only history before `revision` needs; none if there are no such.
    pub(super) fn without_history_before(mut self, revision: Revision) -> Option<Self> {
        let before = self.keys.len();
        self.keys
            .retain(|k| k.unused_since.is_none_or(|since| since > revision));
        (self.keys.len() < before).then_some(self)
    }
}

fn fresh(number: u64) -> RingKey {
    RingKey {
        key: SealingKey::random(format!("key{number}")),
        unused_since: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ring: &KeyRing) -> Vec<&str> {
        ring.keys.iter().map(|k| k.key.name.as_str()).collect()
    }

    #[test]
    fn keys_come_and_go_in_order() {
        let ring = KeyRing::first();
        let old = ring.sealing().seal(b"/a", b"x");
        assert!(ring.is_current(&old) && !ring.is_rotating());
        let ring = ring.with_new_key();
        assert_eq!(names(&ring), ["key2", "key1"]);
        assert!(ring.is_rotating() && !ring.is_current(&old) && !ring.is_current(b"{}"));
        assert_eq!(ring.open(b"/a", &old).expect("opens"), "x");
        let ring = ring.with_old_keys_unused(50);
        assert!(!ring.is_rotating());
        let ring = ring.with_new_key();
        let ring = ring.with_old_keys_unused(70);
        assert_eq!(names(&ring), ["key3", "key2", "key1"]);
        let ring = ring.without_history_before(60).expect("one goes");
        assert_eq!(names(&ring), ["key3", "key2"]);
        assert_eq!(
            ring.open(b"/a", &old),
            Err(OpenError::UnknownKey("key1".into()))
        );
        assert!(ring.without_history_before(69).is_none());
    }
}
