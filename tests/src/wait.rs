//! Waiting for a condition instead of for a while.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition that nobody announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until `condition` answers Ok; its last error is the failure.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                bail!("{what}: not within {limit:?}: {error:#}")
            }
            Err(_) => std::thread::park_timeout(LOOK_EVERY),
        }
    }
}

/// As [`eventually`], for conditions that wait themselves.
pub async fn eventually_async<T, F: Future<Output = Result<T>>>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                bail!("{what}: not within {limit:?}: {error:#}")
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
