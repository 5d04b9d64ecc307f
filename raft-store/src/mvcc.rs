//! The deterministic core: commands in, new state, answers and events out.
//!
//! No I/O but through [`engine::Read`], no clock, no randomness: every member that applies the same commands in the
//! same order holds the same state, and a simulator can drive it from a seed. Must not know Raft or RocksDB.

pub mod alarm;
pub mod apply;
pub mod compact;
pub mod engine;
pub mod hash;
pub mod history;
pub mod keys;
#[cfg(test)]
mod model_test;
pub mod range;
#[cfg(test)]
mod range_test;
pub mod record;
pub mod rows;
pub mod txn;
pub mod validate;

use crate::Error;
use engine::EngineError;

/// Which revisions a view holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Horizon {
    /// The newest revision.
    pub revision: i64,
    /// The floor; 0 if nothing was compacted.
    pub compacted: i64,
}

/// Why the core did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Deterministic: the answer of every member.
    #[error(transparent)]
    Refused(#[from] Error),
    /// This machine's: applying must stop.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Engine(error) => Error::Storage(error.to_string()),
        }
    }
}
