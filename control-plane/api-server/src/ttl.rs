//! Leases for Events: objects that go by themselves after an hour. Many share one lease, so that the store has few.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::store::{Store, StoreError};

/// How long an Event is kept.
const EVENT_TTL_SECONDS: i64 = 3600;
/// How long Events join the same lease; they live up to this much longer.
const SHARED_FOR: Duration = Duration::from_secs(60);

/// The lease that Events of this minute share.
#[derive(Default)]
pub(crate) struct EventLeases(Mutex<Option<(i64, Instant)>>);

impl EventLeases {
    /// The lease for an Event that is written now.
    pub async fn current(&self, store: &dyn Store) -> Result<i64, StoreError> {
        let mut shared = self.0.lock().await;
        if let Some((lease, since)) = *shared
            && since.elapsed() < SHARED_FOR
        {
            return Ok(lease);
        }
        let ttl = EVENT_TTL_SECONDS + i64::try_from(SHARED_FOR.as_secs()).unwrap_or(0);
        let lease = store.lease_grant(ttl).await?;
        *shared = Some((lease, Instant::now()));
        Ok(lease)
    }
}
