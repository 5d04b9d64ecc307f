//! The `current` rows that were written or read lately, in order, and where no others lie between them: what is known of
//! a key or a range need not be looked for in the engine, which asks each of its files.
//!
//! Bounded in size: what was not used lately goes, a row at a time. Must not know what a row means.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use parking_lot::Mutex;

use super::engine::{EngineError, Family, Read, Visit, WriteSet};
use crate::limits;

/// What is known of a key.
#[derive(Debug)]
enum Row {
    Is(Bytes),
    /// There is none.
    Absent,
    /// Nothing: the place is only the end of a range.
    Unknown,
}

/// A place in the order of keys.
#[derive(Debug)]
struct Place {
    row: Row,
    /// No row lies between this place and the next, or the end if there is none.
    joined: bool,
    /// Again, since it came or eviction passed by.
    used: bool,
}

/// The rows that are known: those of the state after the batch that was noted last.
#[derive(Debug)]
pub struct Rows {
    places: BTreeMap<Bytes, Place>,
    /// Of all places.
    bytes: usize,
    /// How far eviction has come.
    hand: Bytes,
    /// Marks of ranges that were asked for and not known. Only what is asked for again is worth keeping.
    asked: Vec<u32>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            places: BTreeMap::new(),
            bytes: 0,
            hand: Bytes::new(),
            asked: vec![0; limits::ASKED_RANGES],
        }
    }
}

impl Row {
    fn of(row: Bytes) -> Self {
        match row.len() <= limits::KNOWN_ROW_BYTES {
            true => Row::Is(row),
            false => Row::Unknown,
        }
    }

    fn len(&self) -> usize {
        match self {
            Row::Is(row) => row.len(),
            Row::Absent | Row::Unknown => 0,
        }
    }
}

/// What a place takes that holds a row of `row` bytes, the tree's share of it included.
pub fn size(key: &[u8], row: usize) -> usize {
    const PLACE: usize = 128;
    PLACE + key.len() + row
}

impl Rows {
    /// The row of `key`, if it is known whether there is one.
    pub fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        let below = (Unbounded, Included(key));
        let (at, place) = self.places.range_mut::<[u8], _>(below).next_back()?;
        if at != key {
            return place.joined.then_some(None);
        }
        place.used = true;
        match &place.row {
            Row::Is(row) => Some(Some(row.clone())),
            Row::Absent => Some(None),
            Row::Unknown => None,
        }
    }

    /// Visits the rows in `[start, end)`, in order; no end means all. Says whether it met them all: if not all are known it
    /// stops in the middle.
    pub fn scan<E>(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        mut visit: impl FnMut(&Bytes, &Bytes) -> Result<bool, E>,
    ) -> Result<bool, E> {
        if end.is_some_and(|end| end <= start) {
            return Ok(true);
        }
        let below = (Unbounded, Excluded(start));
        let before = self.places.range::<[u8], _>(below).next_back();
        let mut joined = before.is_some_and(|(_, place)| place.joined);
        let within = (Included(start), end.map_or(Unbounded, Excluded));
        for (key, place) in self.places.range_mut::<[u8], _>(within) {
            if !joined && key != start {
                return Ok(false);
            }
            place.used = true;
            match &place.row {
                Row::Is(row) if !visit(key, row)? => return Ok(false),
                Row::Is(_) | Row::Absent => {}
                Row::Unknown => return Ok(false),
            }
            joined = place.joined;
        }
        Ok(joined)
    }

    /// Takes over what is written to the engine.
    pub fn note(&mut self, writes: &WriteSet) {
        for (key, change) in writes.family(Family::Current) {
            let row = change.clone().map_or(Row::Absent, Row::of);
            self.put(key, row);
        }
    }

    /// Takes in what is found at `key`, as it is after the batch that was noted last.
    pub fn learn(&mut self, key: &Bytes, row: Option<Bytes>) {
        self.put(key, row.map_or(Row::Absent, Row::of));
    }

    fn put(&mut self, key: &Bytes, row: Row) {
        let below = (Unbounded, Included(&key[..]));
        let before = self.places.range_mut::<[u8], _>(below).next_back();
        let joined = match before {
            Some((at, place)) if at == key => {
                self.bytes = self.bytes - place.row.len() + row.len();
                (place.row, place.used) = (row, true);
                return self.evict();
            }
            Some((_, place)) => place.joined,
            None => false,
        };
        self.insert(Bytes::copy_from_slice(key), row, joined);
    }

    fn insert(&mut self, key: Bytes, row: Row, joined: bool) {
        self.bytes += size(&key, row.len());
        let place = Place {
            row,
            joined,
            used: false,
        };
        self.places.insert(key, place);
        self.evict();
    }

    /// Whether the rows of a range that is not known, of `size` altogether, should be kept: at once if none has to go for
    /// them, else not before the range is asked for again.
    pub fn wants(&mut self, start: &[u8], end: Option<&[u8]>, size: usize) -> bool {
        if self.bytes + size <= limits::KNOWN_ROWS_BYTES {
            return true;
        }
        let hash = FixedState::with_seed(0).hash_one((start, end));
        let at = hash as usize % self.asked.len();
        let mark = (hash >> 32) as u32;
        std::mem::replace(&mut self.asked[at], mark) == mark
    }

    /// Takes in all rows of `[start, end)`, in order, as they are after the batch that was noted last.
    pub fn fill(&mut self, start: &[u8], end: Option<&[u8]>, rows: &[(Bytes, Bytes)]) {
        if end.is_some_and(|end| end <= start) {
            return;
        }
        if let Some(end) = end {
            self.mark_end(end);
        }
        let within = (Included(start), end.map_or(Unbounded, Excluded));
        for (_, place) in self.places.range_mut::<[u8], _>(within) {
            // Whatever was not known here is among the rows, or absent.
            if matches!(place.row, Row::Unknown) {
                place.row = Row::Absent;
            }
            place.joined = true;
        }
        if !self.places.contains_key(start) {
            self.insert(Bytes::copy_from_slice(start), Row::Absent, true);
        }
        for (key, row) in rows {
            self.put(key, Row::of(row.clone()));
        }
    }

    /// Makes `end` a place, unless what lies around it is known: what is joined below it must not reach beyond it.
    fn mark_end(&mut self, end: &[u8]) {
        let below = (Unbounded, Included(end));
        match self.places.range::<[u8], _>(below).next_back() {
            Some((at, place)) if at == end || place.joined => {}
            _ => self.insert(Bytes::copy_from_slice(end), Row::Unknown, false),
        }
    }

    /// Removes what was not used since the last round until the size is right.
    fn evict(&mut self) {
        // No more, so that there is no long pause when all was used.
        let mut spared = 3;
        while self.bytes > limits::KNOWN_ROWS_BYTES && !self.places.is_empty() {
            let from = (Included(&self.hand[..]), Unbounded);
            let Some((key, place)) = self.places.range_mut::<[u8], _>(from).next() else {
                self.hand = Bytes::new();
                continue;
            };
            let key = key.clone();
            if spared > 0 && std::mem::take(&mut place.used) {
                spared -= 1;
                let behind = (Excluded(&key[..]), Unbounded);
                let next = self.places.range::<[u8], _>(behind).next();
                self.hand = next.map_or_else(Bytes::new, |(key, _)| key.clone());
            } else {
                self.remove(&key);
                self.hand = key;
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        let Some(removed) = self.places.remove(key) else {
            return;
        };
        self.bytes -= size(key, removed.row.len());
        let below = (Unbounded, Excluded(key));
        if let Some((_, before)) = self.places.range_mut::<[u8], _>(below).next_back() {
            before.joined &= removed.joined && matches!(removed.row, Row::Absent);
        }
    }
}

/// An engine whose rows are partly known.
pub struct WithRows<'a> {
    pub base: &'a dyn Read,
    pub rows: &'a Arc<Mutex<Rows>>,
}

impl Read for WithRows<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let known = match family {
            Family::Current => self.rows.lock().get(key),
            _ => None,
        };
        match known {
            Some(row) => Ok(row),
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
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::super::engine::{MemoryEngine, Step};
    use super::*;

    fn rows_between(view: &dyn Read, start: &[u8], end: Option<&[u8]>) -> Vec<(Bytes, Bytes)> {
        let mut rows = Vec::new();
        view.scan(Family::Current, start, end, &mut |key, row| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
            Ok(Step::Next)
        })
        .unwrap();
        rows
    }

    /// Writes and reads at random; whatever is said to be known must be what the engine holds. Returns how many reads
    /// were answered.
    fn agrees(seed: u64, keys: u16, row_bytes: usize) -> usize {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut engine, mut rows) = (MemoryEngine::default(), Rows::default());
        let mut writes = WriteSet::default();
        let mut known = 0;
        for round in 0..3_000_u32 {
            let key = |random: &mut StdRng| {
                Bytes::copy_from_slice(&random.random_range(0..keys).to_be_bytes())
            };
            let start = key(&mut random);
            let end = random.random_bool(0.9).then(|| key(&mut random));
            match random.random_range(0..4) {
                0 => {
                    for _ in 0..random.random_range(1..4) {
                        let row = [&round.to_be_bytes()[..], &vec![b'v'; row_bytes]].concat();
                        match random.random_bool(0.6) {
                            true => writes.put(Family::Current, key(&mut random), row),
                            false => writes.delete(Family::Current, key(&mut random)),
                        }
                    }
                    rows.note(&writes);
                    engine.commit(&mut writes);
                }
                1 => {
                    let found = engine.get(Family::Current, &start).unwrap();
                    match rows.get(&start) {
                        Some(row) => {
                            known += 1;
                            assert!(row == found, "seed {seed} round {round}: {start:?}");
                        }
                        None => rows.learn(&start, found),
                    }
                }
                _ => {
                    let expect = rows_between(&engine, &start, end.as_deref());
                    let mut met = Vec::new();
                    let all = rows.scan(&start, end.as_deref(), |key, row| {
                        met.push((key.clone(), row.clone()));
                        Ok::<_, ()>(true)
                    });
                    if all == Ok(true) {
                        known += 1;
                        assert!(
                            met == expect,
                            "seed {seed} round {round}: {start:?} to {end:?}"
                        );
                    } else if random.random_bool(0.5) {
                        rows.fill(&start, end.as_deref(), &expect);
                    }
                }
            }
            let sizes = rows
                .places
                .iter()
                .map(|(key, place)| size(key, place.row.len()));
            assert_eq!(rows.bytes, sizes.sum::<usize>(), "seed {seed}");
            assert!(rows.bytes <= limits::KNOWN_ROWS_BYTES, "seed {seed}");
        }
        known
    }

    #[test]
    fn what_is_known_is_what_the_engine_holds() {
        for seed in 0..20 {
            let known = agrees(seed, 12, 1);
            assert!(
                known > 1_000,
                "seed {seed}: only {known} reads were answered"
            );
        }
    }

    #[test]
    fn what_does_not_fit_goes() {
        for seed in 0..3 {
            assert!(agrees(seed, 200, limits::KNOWN_ROW_BYTES - 8) > 100);
        }
    }

    #[test]
    fn large_rows_are_not_kept() {
        for seed in 0..3 {
            agrees(seed, 12, limits::KNOWN_ROW_BYTES);
        }
    }

    #[test]
    fn what_is_used_stays_while_others_pass() {
        let mut rows = Rows::default();
        let hot = Bytes::from_static(b"m-hot");
        rows.learn(&hot, Some(Bytes::from_static(b"row")));
        for number in 0..200_000_u32 {
            let key = Bytes::from(format!("{:08x}", number.wrapping_mul(2_654_435_761)));
            rows.learn(&key, Some(Bytes::from_static(b"row")));
            if number % 100 == 0 {
                assert!(rows.get(&hot).is_some(), "gone after {number}");
            }
        }
    }

    #[test]
    fn a_range_is_wanted_if_there_is_room_or_it_is_asked_for_again() {
        let mut rows = Rows::default();
        assert!(rows.wants(b"a", Some(b"b"), limits::KNOWN_ROWS_BYTES));
        rows.learn(&Bytes::from_static(b"k"), None);
        let more = limits::KNOWN_ROWS_BYTES;
        assert!(!rows.wants(b"a", Some(b"b"), more));
        assert!(!rows.wants(b"a", Some(b"c"), more));
        assert!(rows.wants(b"a", Some(b"b"), more));
    }
}
