//! State snapshots: a member's whole state as one stream or file, for members that lag and for backups.
//!
//! `format` is the encoding, `source` makes the stream from a consistent view, `file` reads and verifies, `receive`
//! takes chunks in, `load` builds a state directory. Must not know who carries the bytes.

mod file;
mod foreign;
mod format;
mod load;
mod receive;
mod source;

pub use file::{Summary, verify};
pub use foreign::{reseal, sample_file};
pub use format::{Header, decode_foreign_block, encode_rows};
pub use load::load;
pub use receive::{Received, Receiver};
pub use source::{SnapshotStream, Source};

use std::path::PathBuf;

use crate::mvcc::engine::EngineError;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot use the snapshot {}: {source}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the snapshot {} is damaged: offset {offset}: {reason}", .path.display())]
    Damaged {
        path: PathBuf,
        offset: u64,
        reason: String,
    },
    #[error("the snapshot {} has format {found}, this program reads format {supported}", .path.display())]
    Format {
        path: PathBuf,
        found: u32,
        supported: u32,
    },
    #[error("the snapshot {} is of cluster {found:x}, not {expected:x}", .path.display())]
    OtherCluster {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error(transparent)]
    State(#[from] EngineError),
}
