//! The logical hash: equal on all members for the same revision and floor, however far each has cleaned up.

use super::engine::{EngineError, Family, Read, Step};
use super::keys::{self, Revision};
use super::range;
use super::record::Version;
use super::{Failure, Horizon};
use crate::HashKvResponse;
use crate::codec::DecodeError;

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
    let mut key: Vec<u8> = Vec::new();
    let mut below_floor = false;
    view.scan(Family::Kv, &[], None, &mut |raw, value| {
        let (escaped, main) = keys::split_version_key(raw)
            .ok_or(DecodeError("not a version key"))
            .map_err(EngineError::damaged(Family::Kv))?;
        if key != escaped {
            key.clear();
            key.extend_from_slice(escaped);
            below_floor = false;
        }
        if main > revision || below_floor {
            return Ok(Step::Next);
        }
        let version = Version::decode(value).map_err(EngineError::damaged(Family::Kv))?;
        // Of the versions up to the floor only the newest is visible, and a deletion is not.
        if main <= horizon.compacted {
            below_floor = true;
            if version.deleted {
                return Ok(Step::Next);
            }
        }
        hash = crc32c::crc32c_append(hash, raw);
        hash = crc32c::crc32c_append(hash, value);
        if !version.deleted {
            let change = range::change(
                view,
                Revision {
                    main,
                    sub: version.sub,
                },
            )?;
            let change =
                change.ok_or_else(|| EngineError::Io(format!("history lacks revision {main}")))?;
            hash = crc32c::crc32c_append(hash, &change.encode()[2..]);
        }
        Ok(Step::Next)
    })?;
    Ok(HashKvResponse {
        revision: horizon.revision,
        hash,
        compact_revision: horizon.compacted,
        hash_revision: revision,
    })
}
