//! The logical hash: equal on all members for the same revision and floor, however far each has cleaned up.

use super::engine::Read;
use super::history;
use super::keys;
use super::range;
use super::record::Version;
use super::{Failure, Horizon};
use crate::HashKvResponse;

/// Hashes every version that a reader at the floor or above, up to `revision`, could see; 0 = newest.
pub fn hash_kv(
    view: &dyn Read,
    horizon: Horizon,
    revision: i64,
) -> Result<HashKvResponse, Failure> {
    range::check_revision(horizon, revision)?;
    let revision = if revision <= 0 {
        horizon.revision
    } else {
        revision
    };
    let mut hash = crc32c::crc32c(&horizon.compacted.to_le_bytes());
    history::changes(view, &mut |at, change| {
        if at.main > revision {
            return Ok(true);
        }
        // Of the versions up to the floor only the newest is visible, and a deletion is not.
        let above_floor = at.main > horizon.compacted;
        if above_floor || !change.deleted {
            let version = Version {
                sub: at.sub,
                deleted: change.deleted,
            };
            hash = crc32c::crc32c_append(hash, &keys::version_key(&change.key, at.main));
            hash = crc32c::crc32c_append(hash, &version.encode());
        }
        if !change.deleted {
            hash = crc32c::crc32c_append(hash, &change.encode()[2..]);
        }
        Ok(above_floor)
    })?;
    Ok(HashKvResponse {
        revision: horizon.revision,
        hash,
        compact_revision: horizon.compacted,
        hash_revision: revision,
    })
}
