//! Watchers.
use crate::{WatchBatch, WatchError};

/// Delivers the changes of a range, in order, each exactly once.
#[derive(Debug)]
pub struct Watcher {}

impl Watcher {
    /// The next batch; waits until there is one. Cancel-safe.
    pub async fn next(&mut self) -> Result<WatchBatch, WatchError> {
        Err(WatchError::Closed)
    }

    /// The revision up to which `next` has returned every event, or `None` while events are still waiting.
    pub fn progress(&self) -> Option<i64> {
        None
    }
}
