//! Growing pauses per key, for work that must not be repeated in a tight loop.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Keys remembered; beyond it those that have been quiet are dropped.
const KEYS_LIMIT: usize = 10_000;

/// See the module's documentation.
pub(crate) struct Backoff<K> {
    shortest: Duration,
    longest: Duration,
    keys: Mutex<HashMap<K, (Duration, Instant)>>,
}

impl<K: Eq + Hash> Backoff<K> {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            shortest,
            longest,
            keys: Mutex::default(),
        }
    }

    /// None if the key may be worked on now (the next pause is longer then), else how long it has to wait.
    pub(crate) fn next(&self, key: K) -> Option<Duration> {
        let now = Instant::now();
        let mut keys = self.keys.lock();
        if keys.len() >= KEYS_LIMIT {
            let forget_after = 2 * self.longest;
            keys.retain(|_, (_, until)| *until + forget_after > now);
        }
        match keys.get_mut(&key) {
            Some((_, until)) if *until > now => Some(*until - now),
            // Quiet for long: it starts anew.
            Some((pause, until)) if now.duration_since(*until) > 2 * self.longest => {
                (*pause, *until) = (self.shortest, now + self.shortest);
                None
            }
            Some((pause, until)) => {
                *pause = (*pause * 2).min(self.longest);
                *until = now + *pause;
                None
            }
            None => {
                keys.insert(key, (self.shortest, now + self.shortest));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
        assert_eq!(backoff.next("a"), None);
        assert_eq!(backoff.next("a"), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(backoff.next("a"), None);
        assert_eq!(backoff.next("a"), Some(Duration::from_secs(2)));
        assert_eq!(backoff.next("b"), None);
    }
}
