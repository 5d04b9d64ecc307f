//! Cleaning up behind the floor, step by step, in the background of the writes.
//!
//! Every change names the version it replaced, so a step looks only at the changes between the old floor and the
//! new one, never at the keys. It only removes what no reader above the floor can see, so it need not be replicated.

use super::engine::{EngineError, Family, Read, Step, WriteSet};
use super::history;
use super::keys::{self, Revision};
use super::record::Change;
use crate::codec::{DecodeError, Reader, put_i64, put_u64};
use bytes::Bytes;

const CLEANED: &[u8] = b"cleaned";

/// How far cleaning has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The floor that is completely cleaned up.
    floor: i64,
    /// Within the next floor: the last change looked at.
    at: Revision,
    /// The floor being worked on; 0 if none.
    target: i64,
}

impl Cleaned {
    pub fn load(view: &dyn Read) -> Result<Self, EngineError> {
        let Some(raw) = view.get(Family::Meta, CLEANED)? else {
            return Ok(Self::default());
        };
        let decode = || -> Result<Self, DecodeError> {
            let mut reader = Reader::new(raw);
            Ok(Self {
                floor: reader.i64()?,
                at: Revision {
                    main: reader.i64()?,
                    sub: reader.u64()? as u32,
                },
                target: reader.i64()?,
            })
        };
        decode().map_err(EngineError::damaged(Family::Meta))
    }

    /// Whether everything below `floor` is gone.
    pub fn has_reached(&self, floor: i64) -> bool {
        self.floor >= floor
    }

    fn save(&self, writes: &mut WriteSet) {
        let mut out = Vec::new();
        put_i64(&mut out, self.floor);
        put_i64(&mut out, self.at.main);
        put_u64(&mut out, u64::from(self.at.sub));
        put_i64(&mut out, self.target);
        writes.put(Family::Meta, CLEANED, out);
    }
}

/// Plans the removal of at most `limit` changes' leftovers. Commit `writes` and call again until the floor is reached.
pub fn step(
    view: &dyn Read,
    cleaned: Cleaned,
    floor: i64,
    limit: usize,
    writes: &mut WriteSet,
) -> Result<Cleaned, EngineError> {
    if cleaned.has_reached(floor) {
        return Ok(cleaned);
    }
    let mut next = cleaned;
    if next.target == 0 {
        // Deletions made exactly at the old floor were still watchable; now they go too.
        next.target = floor;
        next.at = Revision {
            main: cleaned.floor,
            sub: 0,
        };
    }
    let target = next.target;
    let start = keys::revision_key(next.at);
    let end = keys::revision_key(Revision {
        main: target + 1,
        sub: 0,
    });
    let mut seen = 0;
    let mut stopped = false;
    view.scan(Family::Rev, &start, Some(&end), &mut |raw_key, raw| {
        let revision = keys::parse_revision_key(raw_key)
            .ok_or(DecodeError("not a revision"))
            .map_err(EngineError::damaged(Family::Rev))?;
        if seen == limit {
            stopped = true;
            next.at = revision;
            return Ok(Step::Stop);
        }
        seen += 1;
        let change = Change::decode(Bytes::copy_from_slice(raw))
            .map_err(EngineError::damaged(Family::Rev))?;
        if let Some(previous) = change.previous
            && revision.main > cleaned.floor
        {
            // A deletion of an early format does not say which version it replaced.
            let version = change.version - i64::from(!change.deleted);
            remove(writes, &change.key, previous, history::is_marked(version));
        }
        if change.deleted && revision.main < target {
            remove(writes, &change.key, revision, true);
        }
        Ok(Step::Next)
    })?;
    if !stopped {
        next = Cleaned {
            floor: target,
            at: Revision::default(),
            target: 0,
        };
    }
    next.save(writes);
    Ok(next)
}

fn remove(writes: &mut WriteSet, key: &[u8], revision: Revision, marked: bool) {
    if marked {
        writes.delete(Family::Kv, keys::version_key(key, revision.main));
    }
    writes.delete(Family::Rev, keys::revision_key(revision).to_vec());
}
