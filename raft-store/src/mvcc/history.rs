//! Keys as they were at an older revision.
//!
//! `current` says what has not changed since. The rest is found backwards, from change to change: each names the one
//! that it replaced. `kv` marks every deletion, and one version of each key in [`VERSIONS_PER_MARK`], so that the way is
//! short. Must not know requests.

use super::engine::{EngineError, Family, Read, Step};
use super::keys::{self, Revision};
use super::range::change;
use super::record::{Change, Current, Version};
use crate::codec::DecodeError;

/// Versions of a key of which one is marked: a reader of the past steps over fewer changes than that.
pub const VERSIONS_PER_MARK: i64 = if cfg!(test) { 3 } else { 16 };

/// Marks that wait for the scan of `current` to come by.
const MARKS_AHEAD: usize = if cfg!(test) { 2 } else { 1_000 };

/// Rows of one key that a scan steps over before it seeks.
const STEPS_BEFORE_SEEK: u32 = 8;

/// Whether this version of a key is marked when it is put.
pub fn is_marked(version: i64) -> bool {
    version % VERSIONS_PER_MARK == 0
}

/// What a key was at a revision.
#[derive(Debug)]
pub enum Past<'a> {
    /// What it is: its `current` row.
    Still(&'a [u8]),
    /// Something else: what this change, or one before it in the same life of the key, replaced.
    Before(Revision),
}

pub type VisitPast<'a> = dyn FnMut(&[u8], Past<'_>) -> Result<(), EngineError> + 'a;

/// Visits the keys in `[start, end)` that were there at `revision`, in order; no end means all.
pub fn scan(
    view: &dyn Read,
    start: &[u8],
    end: Option<&[u8]>,
    revision: i64,
    visit: &mut VisitPast<'_>,
) -> Result<(), EngineError> {
    // The oldest mark above the revision is the nearest.
    let nearest = |marks: &mut Vec<Mark>, mark: Mark| {
        if mark.at.main <= revision {
            return false;
        }
        marks.clear();
        marks.push(mark);
        true
    };
    each_key(view, start, end, nearest, &mut |key, row, marks| {
        let mark = marks.first().map(|mark| mark.at);
        if let Some(row) = row {
            let (now, _) =
                Current::decode_head(row).map_err(EngineError::damaged(Family::Current))?;
            if now.modified.main <= revision {
                return visit(key, Past::Still(row));
            }
            if now.create_revision <= revision {
                return visit(key, Past::Before(mark.unwrap_or(now.modified)));
            }
        }
        match mark {
            Some(mark) if lived(view, mark, revision)? => visit(key, Past::Before(mark)),
            _ => Ok(()),
        }
    })
}

/// Whether the life of the key that the change at `later` belongs to had begun at `revision`.
fn lived(view: &dyn Read, later: Revision, revision: i64) -> Result<bool, EngineError> {
    let mut later = held(view, later)?;
    if later.deleted {
        match later.previous {
            Some(previous) if previous.main > revision => later = held(view, previous)?,
            previous => return Ok(previous.is_some()),
        }
    }
    Ok(later.create_revision <= revision)
}

/// The newest change not above `revision` in the life of a key that goes on to the change at `later`.
pub fn before(
    view: &dyn Read,
    later: Revision,
    revision: i64,
) -> Result<(Revision, Change), EngineError> {
    let mut at = later;
    loop {
        let change = held(view, at)?;
        if at.main <= revision {
            return Ok((at, change));
        }
        at = change
            .previous
            .ok_or_else(|| EngineError::Io(format!("no change leads up to revision {at}")))?;
    }
}

/// Visits every change that history holds of every key, key by key, newest first, until the visitor has seen enough of
/// a key.
pub fn changes(
    view: &dyn Read,
    visit: &mut dyn FnMut(Revision, &Change) -> Result<bool, EngineError>,
) -> Result<(), EngineError> {
    let deletions = |marks: &mut Vec<Mark>, mark: Mark| {
        if mark.deleted {
            marks.push(mark);
        }
        true
    };
    each_key(view, &[], None, deletions, &mut |_, row, marks| {
        let now = row.map(Current::decode_head).transpose();
        let now = now.map_err(EngineError::damaged(Family::Current))?;
        let ends = now.map(|(now, _)| now.modified);
        for end in ends.into_iter().chain(marks.iter().map(|mark| mark.at)) {
            let mut next = Some(end);
            while let Some(at) = next {
                let change = held(view, at)?;
                if !visit(at, &change)? {
                    return Ok(());
                }
                next = change.previous;
            }
        }
        Ok(())
    })
}

fn held(view: &dyn Read, at: Revision) -> Result<Change, EngineError> {
    change(view, at)?.ok_or_else(|| EngineError::Io(format!("history lacks revision {at}")))
}

/// A `kv` row.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Revision,
    deleted: bool,
}

/// A key with its `current` row, and what was kept of its marks, newest first.
type VisitKey<'a> = dyn FnMut(&[u8], Option<&[u8]>, &[Mark]) -> Result<(), EngineError> + 'a;

/// Visits the keys in `[start, end)` that are there or have marks that are kept, in order. `keep` is shown the marks of
/// a key, newest first, until it wants no older ones.
fn each_key(
    view: &dyn Read,
    start: &[u8],
    end: Option<&[u8]>,
    mut keep: impl FnMut(&mut Vec<Mark>, Mark) -> bool,
    visit: &mut VisitKey<'_>,
) -> Result<(), EngineError> {
    let mut from = start.to_vec();
    loop {
        let marked = marked_keys(view, &from, end, &mut keep)?;
        // The key behind the last one that was looked at.
        let upto = match marked.last() {
            Some((last, _)) if marked.len() >= MARKS_AHEAD => Some([last, &[0][..]].concat()),
            _ => None,
        };
        let until = upto.as_deref().or(end);
        let mut marked = marked.into_iter().peekable();
        view.scan(Family::Current, &from, until, &mut |key, row| {
            while let Some((dead, marks)) = marked.next_if(|(marked, _)| &marked[..] < key) {
                visit(&dead, None, &marks)?;
            }
            let here = marked.next_if(|(marked, _)| marked == key);
            let marks = here.map(|(_, marks)| marks).unwrap_or_default();
            visit(key, Some(row), &marks)?;
            Ok(Step::Next)
        })?;
        for (dead, marks) in marked {
            visit(&dead, None, &marks)?;
        }
        match upto {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

type Marked = Vec<(Vec<u8>, Vec<Mark>)>;

/// The first keys in `[start, end)` that have marks that are kept.
fn marked_keys(
    view: &dyn Read,
    start: &[u8],
    end: Option<&[u8]>,
    keep: &mut impl FnMut(&mut Vec<Mark>, Mark) -> bool,
) -> Result<Marked, EngineError> {
    let (start, end) = (keys::escape(start), end.map(keys::escape));
    let mut found = Marked::new();
    let (mut key, mut marks) = (Vec::new(), Vec::new());
    let (mut begun, mut wanted, mut steps) = (false, true, 0);
    view.scan(Family::Kv, &start, end.as_deref(), &mut |raw, value| {
        let (escaped, main) = keys::split_version_key(raw)
            .ok_or(DecodeError("not a version key"))
            .map_err(EngineError::damaged(Family::Kv))?;
        if !begun || key != escaped {
            if !marks.is_empty() {
                found.push((keys::unescape(&key), std::mem::take(&mut marks)));
            }
            if found.len() >= MARKS_AHEAD {
                return Ok(Step::Stop);
            }
            key.clear();
            key.extend_from_slice(escaped);
            (begun, wanted, steps) = (true, true, 0);
        }
        if wanted {
            let version = Version::decode(value).map_err(EngineError::damaged(Family::Kv))?;
            let at = Revision {
                main,
                sub: version.sub,
            };
            let deleted = version.deleted;
            wanted = keep(&mut marks, Mark { at, deleted });
            return Ok(Step::Next);
        }
        steps += 1;
        Ok(match steps < STEPS_BEFORE_SEEK {
            true => Step::Next,
            false => Step::Seek(keys::after_versions(escaped)),
        })
    })?;
    if !marks.is_empty() {
        found.push((keys::unescape(&key), marks));
    }
    Ok(found)
}
