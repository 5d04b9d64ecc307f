//! The Raft log on disk: append-only segments, one flusher thread, one `fdatasync` for all that waits (group commit).
//!
//! `record` is the format, `segment` the files, `spare` makes them ready, `appender` writes to the last one, `recover` is what
//! a start finds, `flusher` the only writer, `storage` the face towards openraft. Must not know what the entries mean.

mod appender;
pub mod entry;
mod flusher;
mod foreign;
mod offline;
mod record;
mod recover;
#[cfg(test)]
mod recover_test;
mod segment;
mod spare;
mod state;
mod storage;

pub use foreign::{recover_foreign, reseal, sample_segments};
pub use offline::Offline;
pub use record::{decode_foreign, sample_records};
pub use segment::preallocate;
pub use storage::LogStorage;
