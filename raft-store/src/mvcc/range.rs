//! Range: reading keys as of a revision, with all of etcd's options.
//!
//! Pure over a [`Read`] view; must not know whether that is RocksDB, memory, or a transaction in progress.

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};

use super::engine::{EngineError, Family, Read, Step};
use super::keys::{self, Revision};
use super::record::{Change, Current, Version};
use super::{Failure, Horizon};
use crate::{
    Error, KeyRange, KeyValue, RangeEnd, RangeRequest, RangeResponse, SortOrder, SortTarget, limits,
};

/// Versions of one key that a historical scan steps over before it seeks.
const STEPS_BEFORE_SEEK: u32 = 8;

/// Answers a range request; `horizon` says which revisions the view holds.
pub fn range(
    view: &dyn Read,
    horizon: Horizon,
    request: &RangeRequest,
) -> Result<RangeResponse, Failure> {
    check_revision(horizon, request.revision)?;
    let historical = request.revision > 0 && request.revision < horizon.revision;
    let mut found = Found::new(request);
    if historical {
        scan_history(view, &request.range, request.revision, &mut found)?;
    } else {
        scan_current(view, &request.range, &mut found)?;
    }
    Ok(found.into_response(horizon.revision, request))
}

/// As [`range`], but none if that would meet more than `most` keys, or has to look into history.
pub fn short_range(
    view: &dyn Read,
    horizon: Horizon,
    request: &RangeRequest,
    most: i64,
) -> Result<Option<RangeResponse>, Failure> {
    check_revision(horizon, request.revision)?;
    if request.revision > 0 && request.revision < horizon.revision {
        return Ok(None);
    }
    let mut found = Found::new(request);
    found.most = most;
    scan_current(view, &request.range, &mut found)?;
    let whole = found.count <= most;
    Ok(whole.then(|| found.into_response(horizon.revision, request)))
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
    /// A scan ends behind this many.
    most: i64,
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
            most: i64::MAX,
            values,
        }
    }

    /// Counts one key; whether its content is wanted.
    fn count(&mut self) -> bool {
        self.count += 1;
        self.kvs.len() < self.keep
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
            let (mut head, at) =
                Current::decode_head(raw).map_err(EngineError::damaged(Family::Current))?;
            if found.values {
                head.value = found.copy(&raw[at..]);
            }
            let key = found.copy(key);
            found.kvs.push(head.into_key_value(key));
        }
        Ok(if found.count > found.most {
            Step::Stop
        } else {
            Step::Next
        })
    })
}

/// Walks the version index; of every key the newest version not above `revision` counts.
fn scan_history(
    view: &dyn Read,
    range: &KeyRange,
    revision: i64,
    found: &mut Found,
) -> Result<(), EngineError> {
    let mut wanted = Vec::new();
    versions_at(view, range, revision, &mut |main, version| {
        if !version.deleted && found.count() {
            wanted.push(Revision {
                main,
                sub: version.sub,
            });
            // Reserve the place so that `count` sees how much is kept.
            found.kvs.push(KeyValue::default());
        }
        Ok(())
    })?;
    for (place, revision) in found.kvs.iter_mut().zip(wanted) {
        let change = change(view, revision)?.ok_or_else(|| {
            EngineError::Io(format!(
                "history lacks revision {}.{}",
                revision.main, revision.sub
            ))
        })?;
        *place = change.into_key_value(revision.main);
    }
    Ok(())
}

type VisitVersion<'a> = dyn FnMut(i64, Version) -> Result<(), EngineError> + 'a;

/// Visits, in key order, the newest version not above `revision` of every key in the range (deletions too).
pub fn versions_at(
    view: &dyn Read,
    range: &KeyRange,
    revision: i64,
    visit: &mut VisitVersion<'_>,
) -> Result<(), EngineError> {
    let start = keys::escape(&range.key);
    let end = match &range.end {
        RangeEnd::Single => Some(keys::after_versions(&range.key)),
        RangeEnd::Before(end) => Some(keys::escape(end)),
        RangeEnd::Unbounded => None,
    };
    // A single key's range must not take in longer keys that sort between the bare key and its versions.
    let start = if range.end == RangeEnd::Single {
        keys::version_key(&range.key, i64::MAX)
    } else {
        start
    };
    let mut key: Vec<u8> = Vec::new();
    let mut have_key = false;
    let mut taken = false;
    let mut steps = 0;
    view.scan(Family::Kv, &start, end.as_deref(), &mut |raw, value| {
        let (escaped, main) = keys::split_version_key(raw)
            .ok_or(crate::codec::DecodeError("not a version key"))
            .map_err(EngineError::damaged(Family::Kv))?;
        if !have_key || key != escaped {
            key.clear();
            key.extend_from_slice(escaped);
            (have_key, taken, steps) = (true, false, 0);
        }
        if !taken && main <= revision {
            taken = true;
            steps = 0;
            visit(
                main,
                Version::decode(value).map_err(EngineError::damaged(Family::Kv))?,
            )?;
            return Ok(Step::Next);
        }
        steps += 1;
        if steps < STEPS_BEFORE_SEEK {
            return Ok(Step::Next);
        }
        steps = 0;
        let mut target = raw[..raw.len() - 8].to_vec();
        if taken {
            // Behind every version of this key: the end mark is 00 01.
            *target.last_mut().expect("the end mark is there") = 2;
        } else {
            target.extend_from_slice(&(!(revision as u64)).to_be_bytes());
        }
        Ok(Step::Seek(target))
    })
}
