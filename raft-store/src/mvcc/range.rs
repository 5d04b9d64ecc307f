//! Range: reading keys as of a revision, with all of etcd's options.
//!
//! Pure over a [`Read`] view; must not know whether that is RocksDB, memory, or a transaction in progress.

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};

use super::engine::{EngineError, Family, Read, Step};
use super::history::{self, Past};
use super::keys::{self, Revision};
use super::record::{Change, Current};
use super::rows::{self, Rows};
use super::{Failure, Horizon};
use crate::{
    Error, KeyRange, KeyValue, RangeEnd, RangeRequest, RangeResponse, SortOrder, SortTarget, limits,
};

/// Answers a range request; `horizon` says which revisions the view holds.
pub fn range(
    view: &dyn Read,
    horizon: Horizon,
    request: &RangeRequest,
) -> Result<RangeResponse, Failure> {
    check_revision(horizon, request.revision)?;
    let mut found = Found::new(request);
    if is_historical(horizon, request) {
        scan_history(view, &request.range, request.revision, &mut found)?;
    } else {
        scan_current(view, &request.range, &mut found)?;
    }
    Ok(found.into_response(horizon.revision, request))
}

/// As [`range`], from rows that are known; none if not all of them are, if they are many, or history is asked for.
pub fn known_range(
    rows: &mut Rows,
    horizon: Horizon,
    request: &RangeRequest,
) -> Result<Option<RangeResponse>, Failure> {
    check_revision(horizon, request.revision)?;
    if is_historical(horizon, request) {
        return Ok(None);
    }
    let mut found = Found::new(request);
    let key = &request.range.key;
    if request.range.end == RangeEnd::Single {
        let Some(row) = rows.get(key) else {
            return Ok(None);
        };
        if let Some(row) = row {
            found.take(key, &row)?;
        }
    } else {
        let (start, end) = bounds(&request.range);
        let all = rows.scan(&start, end.as_deref(), |key, row| {
            found.take(key, row)?;
            Ok::<_, EngineError>(found.count <= limits::SHORT_RANGE_KEYS as i64)
        });
        if !all? {
            return Ok(None);
        }
    }
    Ok(Some(found.into_response(horizon.revision, request)))
}

/// The rows that a request asks for, as they are in the engine.
pub enum Few {
    One(Option<Bytes>),
    /// In order, with their keys.
    Many(Vec<(Bytes, Bytes)>),
}

/// Reads what [`range`] would; none if it is much, or history is asked for.
pub fn read_few(
    view: &dyn Read,
    horizon: Horizon,
    request: &RangeRequest,
) -> Result<Option<Few>, Failure> {
    if is_historical(horizon, request) {
        return Ok(None);
    }
    if request.range.end == RangeEnd::Single {
        let row = view.get(Family::Current, &request.range.key)?;
        return Ok(Some(Few::One(row)));
    }
    let (start, end) = bounds(&request.range);
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut few = true;
    view.scan(Family::Current, &start, end.as_deref(), &mut |key, row| {
        bytes += key.len() + row.len();
        few = rows.len() < limits::SHORT_RANGE_KEYS && bytes <= limits::SHORT_RANGE_BYTES;
        if !few {
            return Ok(Step::Stop);
        }
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
        Ok(Step::Next)
    })?;
    Ok(few.then_some(Few::Many(rows)))
}

impl Few {
    /// The answer to the request that it was read for.
    pub fn answer(
        &self,
        horizon: Horizon,
        request: &RangeRequest,
    ) -> Result<RangeResponse, EngineError> {
        let mut found = Found::new(request);
        match self {
            Few::One(row) => {
                if let Some(row) = row {
                    found.take(&request.range.key, row)?;
                }
            }
            Few::Many(rows) => {
                for (key, row) in rows {
                    found.take(key, row)?;
                }
            }
        }
        Ok(found.into_response(horizon.revision, request))
    }

    /// Keeps them for the next who asks, if they are wanted. `rows` must be of the view that they were read from.
    pub fn keep(&self, rows: &mut Rows, request: &RangeRequest) {
        let (start, end) = bounds(&request.range);
        let size = match self {
            Few::One(row) => rows::size(&start, row.as_ref().map_or(0, Bytes::len)),
            Few::Many(few) => few
                .iter()
                .map(|(key, row)| rows::size(key, row.len()))
                .sum(),
        };
        if !rows.wants(&start, end.as_deref(), size) {
            return;
        }
        match self {
            Few::One(row) => rows.learn(&request.range.key, row.clone()),
            Few::Many(few) => rows.fill(&start, end.as_deref(), few),
        }
    }
}

fn is_historical(horizon: Horizon, request: &RangeRequest) -> bool {
    request.revision > 0 && request.revision < horizon.revision
}

/// Refuses revisions the store does not hold (yet or any more).
pub fn check_revision(horizon: Horizon, revision: i64) -> Result<(), Error> {
    if revision > horizon.revision {
        return Err(Error::FutureRevision {
            revision: horizon.revision,
        });
    }
    if revision > 0 && revision < horizon.compacted {
        return Err(Error::Compacted {
            compact_revision: horizon.compacted,
        });
    }
    Ok(())
}

/// The newest state of one key.
pub fn current(view: &dyn Read, key: &[u8]) -> Result<Option<Current>, EngineError> {
    let raw = view.get(Family::Current, key)?;
    raw.map(Current::decode)
        .transpose()
        .map_err(EngineError::damaged(Family::Current))
}

/// The change made at `revision`, if history still holds it.
pub fn change(view: &dyn Read, revision: Revision) -> Result<Option<Change>, EngineError> {
    let raw = view.get(Family::Rev, &keys::revision_key(revision))?;
    raw.map(Change::decode)
        .transpose()
        .map_err(EngineError::damaged(Family::Rev))
}

/// Inclusive start and exclusive end of a range over plain keys.
pub fn bounds(range: &KeyRange) -> (Vec<u8>, Option<Vec<u8>>) {
    let start = range.key.to_vec();
    let end = match &range.end {
        RangeEnd::Single => {
            let mut end = start.clone();
            end.push(0);
            Some(end)
        }
        RangeEnd::Before(end) => Some(end.to_vec()),
        RangeEnd::Unbounded => None,
    };
    (start, end)
}

/// Collects what a scan meets: counts all, keeps what the answer needs.
struct Found {
    /// Room for keys and values: one allocation for many.
    room: BytesMut,
    kvs: Vec<KeyValue>,
    count: i64,
    /// Keep at most this many (one more than the limit, to know that there is more).
    keep: usize,
    values: bool,
}

impl Found {
    fn new(request: &RangeRequest) -> Self {
        let needs_all = request.sort_target != SortTarget::Key
            || request.sort_order == SortOrder::Descend
            || has_filters(request);
        let keep = match request.limit {
            _ if request.count_only => 0,
            limit if limit > 0 && !needs_all => limit as usize + 1,
            _ => usize::MAX,
        };
        // Values are left out early only when nothing looks at them.
        let values = !request.keys_only || request.sort_target == SortTarget::Value;
        Self {
            room: BytesMut::new(),
            kvs: Vec::new(),
            count: 0,
            keep,
            values,
        }
    }

    /// Counts one key; whether its content is wanted.
    fn count(&mut self) -> bool {
        self.count += 1;
        self.kvs.len() < self.keep
    }

    /// Takes in a row that may be shared.
    fn take(&mut self, key: &Bytes, row: &Bytes) -> Result<(), EngineError> {
        if self.count() {
            let (mut head, at) =
                Current::decode_head(row).map_err(EngineError::damaged(Family::Current))?;
            if self.values {
                head.value = row.slice(at..);
            }
            self.kvs.push(head.into_key_value(key.clone()));
        }
        Ok(())
    }

    /// Keeps a copy of a row.
    fn copy_row(&mut self, key: &[u8], row: &[u8]) -> Result<(), EngineError> {
        let (mut head, at) =
            Current::decode_head(row).map_err(EngineError::damaged(Family::Current))?;
        if self.values {
            head.value = self.copy(&row[at..]);
        }
        let key = self.copy(key);
        self.kvs.push(head.into_key_value(key));
        Ok(())
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if self.room.capacity() < bytes.len() {
            self.room = BytesMut::with_capacity(bytes.len().max(limits::RANGE_BLOCK_BYTES));
        }
        self.room.extend_from_slice(bytes);
        self.room.split().freeze()
    }

    fn into_response(mut self, revision: i64, request: &RangeRequest) -> RangeResponse {
        if has_filters(request) {
            self.kvs.retain(|kv| passes_filters(kv, request));
        }
        sort(&mut self.kvs, request);
        let mut more = false;
        if request.limit > 0 && self.kvs.len() as i64 > request.limit {
            self.kvs.truncate(request.limit as usize);
            more = true;
        }
        if request.keys_only {
            self.kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse {
            revision,
            kvs: self.kvs,
            more,
            count: self.count,
        }
    }
}

fn has_filters(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| *bound > 0)
}

fn passes_filters(kv: &KeyValue, request: &RangeRequest) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (min <= 0 || value >= min) && (max <= 0 || value <= max);
    within(
        kv.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        kv.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

fn sort(kvs: &mut [KeyValue], request: &RangeRequest) {
    let compare = |a: &KeyValue, b: &KeyValue| -> Ordering {
        match request.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::CreateRevision => a.create_revision.cmp(&b.create_revision),
            SortTarget::ModRevision => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    };
    match (request.sort_target, request.sort_order) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => {}
        (_, SortOrder::None | SortOrder::Ascend) => kvs.sort_by(compare),
        (_, SortOrder::Descend) => kvs.sort_by(|a, b| compare(b, a)),
    }
}

fn scan_current(view: &dyn Read, range: &KeyRange, found: &mut Found) -> Result<(), EngineError> {
    if range.end == RangeEnd::Single {
        if let Some(current) = current(view, &range.key)?
            && found.count()
        {
            found.kvs.push(current.into_key_value(range.key.clone()));
        }
        return Ok(());
    }
    let (start, end) = bounds(range);
    view.scan(Family::Current, &start, end.as_deref(), &mut |key, raw| {
        if found.count() {
            found.copy_row(key, raw)?;
        }
        Ok(Step::Next)
    })
}

fn scan_history(
    view: &dyn Read,
    range: &KeyRange,
    revision: i64,
    found: &mut Found,
) -> Result<(), EngineError> {
    let (start, end) = bounds(range);
    history::scan(view, &start, end.as_deref(), revision, &mut |key, past| {
        if found.count() {
            match past {
                Past::Still(row) => found.copy_row(key, row)?,
                Past::Before(later) => {
                    let (at, change) = history::before(view, later, revision)?;
                    found.kvs.push(change.into_key_value(at.main));
                }
            }
        }
        Ok(())
    })
}
