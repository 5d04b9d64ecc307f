//! From a snapshot file to a state directory: built beside the current one, durable before anyone looks at it.

use std::path::Path;

use super::SnapshotError;
use super::file::{self, Summary};
use crate::engine::{Bulk, Engine};

/// Builds a database in the empty or absent directory `to` from the file. Every checksum was found right when it
/// returns; on an error the directory is worth nothing.
pub fn load(
    path: &Path,
    skip_digest: bool,
    to: &Path,
    block_cache_bytes: usize,
) -> Result<(Engine, Summary), SnapshotError> {
    let engine = Engine::open(to, block_cache_bytes)?;
    let mut bulk = Bulk::new(&engine);
    let summary = file::read(path, skip_digest, &mut |family, rows| {
        for (key, value) in &rows {
            bulk.put(family, key, value)?;
        }
        Ok(())
    })?;
    bulk.finish()?;
    engine.flush()?;
    Ok((engine, summary))
}
