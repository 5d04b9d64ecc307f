//! Reading past events from the store's history, whole revisions at a time.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::ring::Revision;
use crate::mvcc::engine::{EngineError, Family, Read, Step};
use crate::mvcc::keys::{self, Revision as At};
use crate::mvcc::range;
use crate::mvcc::record::Change;
use crate::{Event, EventKind, limits};

/// A stretch of history.
#[derive(Debug, Default)]
pub struct Stretch {
    pub revisions: Vec<Revision>,
    /// Everything up to here was read.
    pub upto: i64,
}

/// Most changes looked at in one stretch, wanted or not, and most of their bytes: bounds the time it takes, on a thread that
/// has other things to do.
const MAX_CHANGES: usize = 256;
const MAX_BYTES: usize = limits::WATCH_BATCH_BYTES;

/// Reads revisions `from..=upto`, ending early (at a revision's end) after `max_revisions` or enough work.
pub fn read(
    view: &dyn Read,
    from: i64,
    upto: i64,
    max_revisions: usize,
    prev_kv: bool,
    wants: &dyn Fn(&Event) -> bool,
) -> Result<Stretch, EngineError> {
    let start = keys::revision_key(At { main: from, sub: 0 });
    let end = keys::revision_key(At {
        main: upto + 1,
        sub: 0,
    });
    let mut found: Vec<(Event, Option<At>)> = Vec::new();
    let mut stretch = Stretch {
        revisions: Vec::new(),
        upto,
    };
    let (mut last, mut revisions, mut changes, mut bytes) = (0, 0, 0, 0);
    view.scan(Family::Rev, &start, Some(&end), &mut |key, raw| {
        let at = keys::parse_revision_key(key).ok_or(crate::codec::DecodeError("not a revision"));
        let at = at.map_err(EngineError::damaged(Family::Rev))?;
        if at.main != last {
            if revisions == max_revisions || changes >= MAX_CHANGES || bytes >= MAX_BYTES {
                stretch.upto = last;
                return Ok(Step::Stop);
            }
            revisions += 1;
            last = at.main;
        }
        changes += 1;
        bytes += raw.len();
        let change = Change::decode(Bytes::copy_from_slice(raw))
            .map_err(EngineError::damaged(Family::Rev))?;
        let kind = if change.deleted {
            EventKind::Delete
        } else {
            EventKind::Put
        };
        let previous = change.previous;
        let kv = change.into_key_value(at.main);
        let event = Event {
            kind,
            kv,
            prev_kv: None,
            encoded: OnceLock::new(),
        };
        if wants(&event) {
            found.push((event, previous));
        }
        Ok(Step::Next)
    })?;
    let mut events = Vec::with_capacity(found.len());
    for (mut event, previous) in found {
        if prev_kv && let Some(previous) = previous {
            let change = range::change(view, previous)?;
            event.prev_kv = change.map(|change| change.into_key_value(previous.main));
        }
        events.push(Arc::new(event));
    }
    let by_revision = events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision);
    stretch.revisions = by_revision
        .map(|events| Revision {
            revision: events[0].kv.mod_revision,
            events: events.into(),
        })
        .collect();
    Ok(stretch)
}
