//! How the column families' keys are laid out, so that byte order is the order wanted.
//!
//! `current` uses the user's key as it is. `kv` escapes it (`00` → `00 ff`, end `00 01`) and appends the inverted
//! revision: the marked versions of a key lie together, newest first. `rev` is revision and sub-revision, big-endian.

use std::fmt;

/// A change's place in history: the revision, and its order within the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    pub main: i64,
    pub sub: u32,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

const END: [u8; 2] = [0, 1];

/// Escaped key without its end mark: a bound for ranges over `kv`.
pub fn escape(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 10);
    if memchr_zero(key) {
        for &byte in key {
            out.push(byte);
            if byte == 0 {
                out.push(0xff);
            }
        }
    } else {
        out.extend_from_slice(key);
    }
    out
}

fn memchr_zero(key: &[u8]) -> bool {
    key.contains(&0)
}

/// The `kv` key of one version.
pub fn version_key(key: &[u8], main: i64) -> Vec<u8> {
    let mut out = escape(key);
    out.extend_from_slice(&END);
    out.extend_from_slice(&(!(main as u64)).to_be_bytes());
    out
}

/// A bound behind every version of an escaped key.
pub fn after_versions(escaped: &[u8]) -> Vec<u8> {
    [escaped, &[0, 2]].concat()
}

/// Splits a `kv` key into the still escaped key and the revision.
pub fn split_version_key(raw: &[u8]) -> Option<(&[u8], i64)> {
    let split = raw.len().checked_sub(10)?;
    let (escaped, tail) = raw.split_at(split);
    let revision = tail.strip_prefix(&END)?;
    Some((
        escaped,
        !u64::from_be_bytes(revision.try_into().ok()?) as i64,
    ))
}

/// Undoes [`escape`].
pub fn unescape(escaped: &[u8]) -> Vec<u8> {
    if !memchr_zero(escaped) {
        return escaped.to_vec();
    }
    let mut out = Vec::with_capacity(escaped.len());
    let mut skip = false;
    for &byte in escaped {
        if !skip {
            out.push(byte);
        }
        skip = byte == 0 && !skip;
    }
    out
}

/// The `rev` key of a change.
pub fn revision_key(revision: Revision) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&revision.main.to_be_bytes());
    out[8..].copy_from_slice(&revision.sub.to_be_bytes());
    out
}

pub fn parse_revision_key(raw: &[u8]) -> Option<Revision> {
    let raw: &[u8; 12] = raw.try_into().ok()?;
    let main = i64::from_be_bytes(raw[..8].try_into().ok()?);
    let sub = u32::from_be_bytes(raw[8..].try_into().ok()?);
    Some(Revision { main, sub })
}

/// `leases`: the row of the lease itself.
pub fn lease_key(id: i64) -> [u8; 9] {
    tagged(b'L', id)
}

/// `leases`: the row that says `key` is attached to the lease.
pub fn attachment_key(id: i64, key: &[u8]) -> Vec<u8> {
    let mut out = tagged(b'K', id).to_vec();
    out.extend_from_slice(key);
    out
}

/// `leases`: the prefix of a lease's attachments.
pub fn attachments(id: i64) -> [u8; 9] {
    tagged(b'K', id)
}

fn tagged(tag: u8, id: i64) -> [u8; 9] {
    let mut out = [tag; 9];
    // The flipped sign bit keeps negative ids before positive ones.
    out[1..].copy_from_slice(&((id as u64) ^ (1 << 63)).to_be_bytes());
    out
}

pub fn parse_tagged_id(raw: &[u8]) -> Option<i64> {
    let id: [u8; 8] = raw.get(1..9)?.try_into().ok()?;
    Some((u64::from_be_bytes(id) ^ (1 << 63)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(0u8), Just(1), Just(2), Just(0xff), any::<u8>()],
            0..6,
        )
    }

    proptest! {
        #[test]
        fn version_keys_sort_by_key_then_newest_first(a in key(), b in key(), x in 0..9i64, y in 0..9i64) {
            let expected = a.cmp(&b).then(y.cmp(&x));
            prop_assert_eq!(version_key(&a, x).cmp(&version_key(&b, y)), expected);
        }

        #[test]
        fn version_keys_round_trip(a in key(), x in 0..i64::MAX) {
            let raw = version_key(&a, x);
            let (escaped, main) = split_version_key(&raw).unwrap();
            prop_assert_eq!(unescape(escaped), a);
            prop_assert_eq!(main, x);
        }

        #[test]
        fn escaped_bounds_hold(a in key(), bound in key(), x in 0..9i64) {
            prop_assert_eq!(version_key(&a, x) < escape(&bound), a < bound);
            prop_assert_eq!(version_key(&a, x) < after_versions(&escape(&bound)), a <= bound);
        }
    }
}
