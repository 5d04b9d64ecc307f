//! The `current` rows that were written last: most writes change a key that was changed not long ago, and so need not
//! look for it in the engine.
//!
//! Two generations of bounded size: the older one goes as a whole when the younger one is full. Must not know what a row
//! means.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::engine::{EngineError, Family, Read, Visit, WriteSet};
use crate::limits;

/// Rows as the engine holds them; none: that there is no such row. Keys are copies, since a request's own would keep all
/// of the request.
type Rows = HashMap<Box<[u8]>, Option<Bytes>, RandomState>;

#[derive(Default)]
pub struct Recent {
    young: Rows,
    old: Rows,
    /// Of the young ones.
    bytes: usize,
}

impl Recent {
    /// Takes over what is written to the engine.
    pub fn note(&mut self, writes: &WriteSet) {
        for (key, change) in writes.family(Family::Current) {
            self.bytes += key.len() + change.as_ref().map_or(0, Bytes::len);
            self.young.insert(key[..].into(), change.clone());
            if self.bytes > limits::RECENT_ROWS_BYTES / 2 {
                self.old = std::mem::take(&mut self.young);
                self.bytes = 0;
            }
        }
    }

    fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.young.get(key).or_else(|| self.old.get(key))
    }
}

/// An engine whose recent rows are known.
pub struct WithRecent<'a> {
    pub base: &'a dyn Read,
    pub recent: &'a Recent,
}

impl Read for WithRecent<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let known = match family {
            Family::Current => self.recent.get(key),
            _ => None,
        };
        match known {
            Some(row) => Ok(row.clone()),
            None => self.base.get(family, key),
        }
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        self.base.scan(family, start, end, visit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::MemoryEngine;
    use super::*;

    #[test]
    fn rows_are_those_of_the_engine_whatever_is_known() {
        let (mut engine, mut recent) = (MemoryEngine::default(), Recent::default());
        let mut writes = WriteSet::default();
        let large = Bytes::from(vec![b'v'; limits::RECENT_ROWS_BYTES / 8]);
        for round in 0..40_u8 {
            let key = Bytes::from(vec![round % 7]);
            if round % 5 == 0 {
                writes.delete(Family::Current, key);
            } else {
                writes.put(Family::Current, key, [&[round], &large[..]].concat());
            }
            recent.note(&writes);
            engine.commit(&mut writes);
            let view = WithRecent {
                base: &engine,
                recent: &recent,
            };
            for key in 0..7 {
                let (found, expect) = (
                    view.get(Family::Current, &[key]),
                    engine.get(Family::Current, &[key]),
                );
                assert!(found == expect, "key {key} in round {round}");
            }
            let rows = recent.young.values().chain(recent.old.values());
            let kept: usize = rows.flatten().map(Bytes::len).sum();
            assert!(kept <= limits::RECENT_ROWS_BYTES + 2 * large.len());
        }
    }
}
