//! Hashes of templates that become part of names: the same template always has the same hash.

use serde::Serialize;

/// Letters and digits that cannot form words or be mistaken for one another.
const SAFE_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A label-safe hash of a value and of the number of collisions met so far.
pub(crate) fn computed_hash<T: Serialize>(value: &T, collision_count: Option<i32>) -> String {
    let mut hash = Fnv::new();
    // Serializing plain data into memory cannot fail.
    hash.write(&serde_json::to_vec(value).unwrap_or_default());
    if let Some(count) = collision_count {
        hash.write(&u64::try_from(count).unwrap_or(0).to_le_bytes());
    }
    safe_encode(&hash.0.to_string())
}

/// Replaces every character by one of the safe alphabet.
fn safe_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| SAFE_ALPHABET[usize::from(byte) % SAFE_ALPHABET.len()] as char)
        .collect()
}

/// FNV-1a, 32 bit.
struct Fnv(u32);

impl Fnv {
    fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_and_safe() {
        let hash = computed_hash(&"template", None);
        assert_eq!(hash, computed_hash(&"template", None));
        assert_ne!(hash, computed_hash(&"template", Some(1)));
        assert!(
            hash.bytes().all(|byte| SAFE_ALPHABET.contains(&byte)),
            "{hash}"
        );
        let mut fnv = Fnv::new();
        fnv.write(b"foobar");
        assert_eq!(fnv.0, 0xbf9c_f968, "the published FNV-1a test vector");
    }
}
