//! Limits how many requests run at once, so that a crowd of clients is served in turn and cannot exhaust the server.
//!
//! Requests wait in order of arrival, up to a bound; beyond it they are told to come back. Watches and other streams
//! without an end are not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api_machinery::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads that run at once.
const READS_IN_FLIGHT: usize = 400;
/// Writes that run at once.
const WRITES_IN_FLIGHT: usize = 200;
/// Requests of either sort that may wait for their turn.
const WAITING_LIMIT: usize = 4000;
/// How long one waits at most.
const WAIT_LIMIT: Duration = Duration::from_secs(15);

/// The right to run; given back when dropped.
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

struct Lane {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The two lanes of requests.
pub(crate) struct FlowControl {
    reads: Lane,
    writes: Lane,
}

impl Default for FlowControl {
    fn default() -> Self {
        let lane = |limit| Lane {
            running: Arc::new(Semaphore::new(limit)),
            waiting: AtomicUsize::new(0),
        };
        Self {
            reads: lane(READS_IN_FLIGHT),
            writes: lane(WRITES_IN_FLIGHT),
        }
    }
}

impl FlowControl {
    /// Waits for a turn.
    ///
    /// # Errors
    /// 429 where too many wait already, or it took too long.
    pub async fn enter(&self, is_read: bool) -> Result<Turn, Status> {
        let lane = if is_read { &self.reads } else { &self.writes };
        if let Ok(permit) = lane.running.clone().try_acquire_owned() {
            return Ok(Turn {
                _permit: Some(permit),
            });
        }
        if lane.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_LIMIT {
            lane.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(refused());
        }
        let permit = tokio::time::timeout(WAIT_LIMIT, lane.running.clone().acquire_owned()).await;
        lane.waiting.fetch_sub(1, Ordering::Relaxed);
        match permit {
            Ok(Ok(permit)) => Ok(Turn {
                _permit: Some(permit),
            }),
            _ => Err(refused()),
        }
    }

    /// A turn that counts for nothing.
    pub fn exempt() -> Turn {
        Turn { _permit: None }
    }

    /// Requests that wait: reads, writes.
    pub fn waiting(&self) -> (usize, usize) {
        (
            self.reads.waiting.load(Ordering::Relaxed),
            self.writes.waiting.load(Ordering::Relaxed),
        )
    }
}

fn refused() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", 1)
}
