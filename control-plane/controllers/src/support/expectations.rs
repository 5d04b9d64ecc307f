//! What a controller has done but not yet seen come back through its informer.
//!
//! Between a create and its arrival the informer lags behind; a controller that counted pods then would make too many.
//! So it notes how many creations and which deletions it waits for, and leaves the key alone until they have been seen
//! (or so much time has passed that they must have been missed).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use api_client::ObjectKey;
use parking_lot::Mutex;
use tokio::time::Instant;

/// After this time unseen expectations no longer hold a key back.
const EXPIRY: Duration = Duration::from_secs(300);

struct Expected {
    creations: usize,
    /// uids
    deletions: HashSet<String>,
    since: Instant,
}

/// Expectations per key of an owner.
#[derive(Default)]
pub(crate) struct Expectations(Mutex<HashMap<ObjectKey, Expected>>);

impl Expectations {
    /// To be called before the first of `count` creations.
    pub(crate) fn expect_creations(&self, key: &ObjectKey, count: usize) {
        self.change(key, |expected| expected.creations += count);
    }

    pub(crate) fn expect_deletions(&self, key: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        self.change(key, |expected| expected.deletions.extend(uids));
    }

    /// A creation was seen, or will never be.
    pub(crate) fn creation_observed(&self, key: &ObjectKey) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or will never be.
    pub(crate) fn deletion_observed(&self, key: &ObjectKey, uid: &str) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// Whether the informer shows all that was done for this key.
    pub(crate) fn satisfied(&self, key: &ObjectKey) -> bool {
        self.0.lock().get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty())
                || expected.since.elapsed() > EXPIRY
        })
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }

    fn change(&self, key: &ObjectKey, change: impl FnOnce(&mut Expected)) {
        let mut all = self.0.lock();
        let fresh = || Expected {
            creations: 0,
            deletions: HashSet::new(),
            since: Instant::now(),
        };
        let expected = all.entry(key.clone()).or_insert_with(fresh);
        if expected.since.elapsed() > EXPIRY {
            *expected = fresh();
        }
        if expected.creations == 0 && expected.deletions.is_empty() {
            expected.since = Instant::now();
        }
        change(expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_held_back_until_all_was_seen_or_time_has_passed() {
        let expectations = Expectations::default();
        let key = ObjectKey::new("ns", "a");
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        expectations.creation_observed(&key);
        assert!(!expectations.satisfied(&key));
        expectations.creation_observed(&key);
        expectations.creation_observed(&key);
        assert!(expectations.satisfied(&key));
        expectations.expect_deletions(&key, ["u".to_owned()]);
        expectations.deletion_observed(&key, "other");
        assert!(!expectations.satisfied(&key));
        tokio::time::advance(EXPIRY + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&key));
    }
}
