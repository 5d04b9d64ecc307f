//! What the deterministic core asks of a storage engine: ordered byte maps, read by snapshot, written by batch.
//!
//! RocksDB implements it in production; [`MemoryEngine`] in tests and simulation. Must not know: revisions.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::codec::DecodeError;

/// The column families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Key → newest state.
    Current,
    /// Key and revision, newest first → version: deletions, and some of the others.
    Kv,
    /// Revision and sub-revision → change.
    Rev,
    /// Leases and what is attached to them.
    Leases,
    /// The store's own bookkeeping.
    Meta,
}

impl Family {
    pub const ALL: [Family; 5] = [
        Family::Current,
        Family::Kv,
        Family::Rev,
        Family::Leases,
        Family::Meta,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Family::Current => "current",
            Family::Kv => "kv",
            Family::Rev => "rev",
            Family::Leases => "leases",
            Family::Meta => "meta",
        }
    }
}

/// The engine failed or holds something that this program did not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("{0}")]
    Io(String),
    #[error("the state database holds a damaged row in {family}: {source}")]
    Damaged {
        family: &'static str,
        source: DecodeError,
    },
}

impl EngineError {
    pub fn damaged(family: Family) -> impl FnOnce(DecodeError) -> EngineError {
        move |source| EngineError::Damaged {
            family: family.name(),
            source,
        }
    }
}

/// What a scan does after a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Next,
    /// Go on at the first row not below this key.
    Seek(Vec<u8>),
    Stop,
}

pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<Step, EngineError> + 'a;

/// A consistent view.
pub trait Read {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Visits rows in `[start, end)` in order; no end means all.
    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError>;
}

/// Changes of all families, the newest of each key: one atomic batch.
#[derive(Debug, Default)]
pub struct WriteSet {
    families: [BTreeMap<Bytes, Option<Bytes>>; Family::ALL.len()],
}

impl WriteSet {
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.families[family as usize].insert(key.into(), Some(value.into()));
    }

    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        self.families[family as usize].insert(key.into(), None);
    }

    pub fn family(&self, family: Family) -> &BTreeMap<Bytes, Option<Bytes>> {
        &self.families[family as usize]
    }

    pub fn is_empty(&self) -> bool {
        self.families.iter().all(BTreeMap::is_empty)
    }

    pub fn clear(&mut self) {
        self.families.iter_mut().for_each(BTreeMap::clear);
    }
}

/// A view with changes on top that are not in the engine yet.
pub struct Overlay<'a> {
    pub base: &'a dyn Read,
    pub writes: &'a mut WriteSet,
}

impl Read for Overlay<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.writes.family(family).get(key) {
            Some(change) => Ok(change.clone()),
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
        let mut from = start.to_vec();
        loop {
            match self.scan_until_seek(family, &from, end, visit)? {
                Some(next) if end.is_none_or(|end| next.as_slice() < end) => from = next,
                _ => return Ok(()),
            }
        }
    }
}

impl Overlay<'_> {
    /// Merges changes and base from `start` on; returns where to go on if the visitor asked to seek.
    fn scan_until_seek(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        if end.is_some_and(|end| end <= start) {
            return Ok(None);
        }
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        let mut changes = self
            .writes
            .family(family)
            .range::<[u8], _>((Bound::Included(start), upper))
            .peekable();
        let mut seek = None;
        let mut stopped = false;
        let mut emit = |key: &[u8], value: &[u8]| -> Result<bool, EngineError> {
            match visit(key, value)? {
                Step::Next => Ok(true),
                Step::Seek(to) => {
                    seek = Some(to);
                    Ok(false)
                }
                Step::Stop => Ok(false),
            }
        };
        self.base.scan(family, start, end, &mut |key, value| {
            while let Some((changed, change)) =
                changes.next_if(|(changed, _)| changed.as_ref() < key)
            {
                if let Some(change) = change
                    && !emit(changed, change)?
                {
                    stopped = true;
                    return Ok(Step::Stop);
                }
            }
            let go_on = match changes.next_if(|(changed, _)| changed.as_ref() == key) {
                Some((_, Some(change))) => emit(key, change)?,
                Some((_, None)) => true,
                None => emit(key, value)?,
            };
            stopped = !go_on;
            Ok(if go_on { Step::Next } else { Step::Stop })
        })?;
        if !stopped {
            for (changed, change) in changes {
                if let Some(change) = change
                    && !emit(changed, change)?
                {
                    break;
                }
            }
        }
        Ok(seek)
    }
}

/// An engine in memory: for tests, models and simulation.
#[cfg(test)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryEngine {
    families: [BTreeMap<Bytes, Bytes>; Family::ALL.len()],
}

#[cfg(test)]
impl MemoryEngine {
    /// Takes over a batch and leaves it empty.
    pub fn commit(&mut self, writes: &mut WriteSet) {
        for (rows, changes) in self.families.iter_mut().zip(&mut writes.families) {
            for (key, change) in std::mem::take(changes) {
                match change {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
            }
        }
    }

    /// Number of rows of a family.
    pub fn len(&self, family: Family) -> usize {
        self.families[family as usize].len()
    }
}

#[cfg(test)]
impl Read for MemoryEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.families[family as usize].get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut from = start.to_vec();
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        'seek: while end.is_none_or(|end| from.as_slice() < end) {
            let rows = &self.families[family as usize];
            for (key, value) in rows.range::<[u8], _>((Bound::Included(from.as_slice()), upper)) {
                match visit(key, value)? {
                    Step::Next => {}
                    Step::Seek(to) => {
                        from = to;
                        continue 'seek;
                    }
                    Step::Stop => return Ok(()),
                }
            }
            return Ok(());
        }
        Ok(())
    }
}
