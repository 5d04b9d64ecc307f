//! Writes: put, delete and transactions on the state, as one revision.
//!
//! A write is checked completely before it changes anything, so nothing ever fails half way.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::engine::{EngineError, Family, Overlay, Read, Step};
use super::history;
use super::keys::{self, Revision};
use super::range;
use super::record::{Change, Current, Version};
use super::{Failure, Horizon};
use crate::planted::{Bug, planted};
use crate::*;

/// One write in progress. All its changes share one revision.
pub struct Write<'a, 'e> {
    pub view: &'a mut Overlay<'e>,
    /// Before the write.
    pub before: Horizon,
    pub events: &'a mut Vec<Arc<Event>>,
    changes: u32,
}

impl<'a, 'e> Write<'a, 'e> {
    pub fn new(
        view: &'a mut Overlay<'e>,
        before: Horizon,
        events: &'a mut Vec<Arc<Event>>,
    ) -> Self {
        Self {
            view,
            before,
            events,
            changes: 0,
        }
    }

    /// The store's revision as of now, within or after the write.
    pub fn revision(&self) -> i64 {
        self.before.revision + i64::from(self.changes > 0)
    }

    fn horizon(&self) -> Horizon {
        Horizon {
            revision: self.revision(),
            ..self.before
        }
    }

    fn next_revision(&mut self) -> Revision {
        let revision = Revision {
            main: self.before.revision + 1,
            sub: self.changes,
        };
        self.changes += 1;
        revision
    }

    pub fn put(&mut self, request: PutRequest) -> Result<PutResponse, Failure> {
        self.check_put(&request)?;
        self.run_put(request)
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), Failure> {
        if (request.ignore_value || request.ignore_lease)
            && range::current(self.view, &request.key)?.is_none()
        {
            return Err(Error::KeyNotFound.into());
        }
        if request.lease != 0
            && self
                .view
                .get(Family::Leases, &keys::lease_key(request.lease))?
                .is_none()
        {
            return Err(Error::LeaseNotFound.into());
        }
        Ok(())
    }

    fn run_put(&mut self, request: PutRequest) -> Result<PutResponse, Failure> {
        let previous = range::current(self.view, &request.key)?;
        let modified = self.next_revision();
        let kept = previous.as_ref();
        let next = Current {
            create_revision: kept.map_or(modified.main, |kept| kept.create_revision),
            modified,
            version: kept.map_or(0, |kept| kept.version) + 1,
            lease: match kept {
                Some(kept) if request.ignore_lease => kept.lease,
                _ => request.lease,
            },
            value: match kept {
                Some(kept) if request.ignore_value => kept.value.clone(),
                _ => request.value,
            },
        };
        self.move_lease(&request.key, kept.map_or(0, |kept| kept.lease), next.lease);
        self.record(&request.key, kept, Some(&next));
        let prev_kv = previous.map(|previous| previous.into_key_value(request.key.clone()));
        let kv = next.into_key_value(request.key);
        self.emit(EventKind::Put, kv, prev_kv.clone());
        Ok(PutResponse {
            revision: modified.main,
            prev_kv: prev_kv.filter(|_| request.prev_kv),
        })
    }

    fn move_lease(&mut self, key: &[u8], from: i64, to: i64) {
        if from == to {
            return;
        }
        if from != 0 {
            self.view
                .writes
                .delete(Family::Leases, keys::attachment_key(from, key));
        }
        if to != 0 {
            self.view
                .writes
                .put(Family::Leases, keys::attachment_key(to, key), Bytes::new());
        }
    }

    /// Writes the rows of one change; no `next` means deletion.
    fn record(&mut self, key: &Bytes, previous: Option<&Current>, next: Option<&Current>) {
        let modified = match next {
            Some(next) => next.modified,
            None => self.next_revision(),
        };
        let change = Change {
            deleted: next.is_none(),
            key: key.clone(),
            create_revision: next.map_or(0, |next| next.create_revision),
            version: next.or(previous).map_or(0, |state| state.version),
            lease: next.map_or(0, |next| next.lease),
            previous: previous.map(|previous| previous.modified),
            value: next.map(|next| next.value.clone()).unwrap_or_default(),
        };
        let writes = &mut self.view.writes;
        match next {
            Some(next) => writes.put(Family::Current, key.clone(), next.encode()),
            None => writes.delete(Family::Current, key.clone()),
        }
        if change.deleted || history::is_marked(change.version) {
            let version = Version {
                sub: modified.sub,
                deleted: change.deleted,
            };
            writes.put(
                Family::Kv,
                keys::version_key(key, modified.main),
                version.encode(),
            );
        }
        writes.put(
            Family::Rev,
            keys::revision_key(modified).to_vec(),
            change.encode(),
        );
    }

    fn emit(&mut self, kind: EventKind, kv: KeyValue, prev_kv: Option<KeyValue>) {
        self.events.push(Arc::new(Event {
            kind,
            kv,
            prev_kv,
            encoded: OnceLock::new(),
        }));
    }

    pub fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Failure> {
        let doomed = self.keys_in(&request.range)?;
        let mut response = DeleteRangeResponse {
            deleted: doomed.len() as i64,
            ..Default::default()
        };
        for (key, current) in doomed {
            self.delete(key.clone(), &current);
            if request.prev_kv {
                response.prev_kvs.push(current.into_key_value(key));
            }
        }
        response.revision = self.revision();
        Ok(response)
    }

    /// Deletes a key that exists.
    pub fn delete(&mut self, key: Bytes, current: &Current) {
        self.move_lease(&key, current.lease, 0);
        self.record(&key, Some(current), None);
        let tombstone = KeyValue {
            key: key.clone(),
            mod_revision: self.before.revision + 1,
            ..KeyValue::default()
        };
        self.emit(
            EventKind::Delete,
            tombstone,
            Some(current.clone().into_key_value(key)),
        );
    }

    fn keys_in(&self, range: &KeyRange) -> Result<Vec<(Bytes, Current)>, EngineError> {
        if range.end == RangeEnd::Single {
            let current = range::current(self.view, &range.key)?;
            return Ok(current
                .into_iter()
                .map(|current| (range.key.clone(), current))
                .collect());
        }
        let mut found = Vec::new();
        let (start, end) = range::bounds(range);
        self.view
            .scan(Family::Current, &start, end.as_deref(), &mut |key, raw| {
                let current = Current::decode(Bytes::copy_from_slice(raw))
                    .map_err(EngineError::damaged(Family::Current))?;
                found.push((Bytes::copy_from_slice(key), current));
                Ok(Step::Next)
            })?;
        Ok(found)
    }

    pub fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        let path = Path::take(self.view, &request)?;
        let branch = if path.succeeded {
            &request.success
        } else {
            &request.failure
        };
        self.check_branch(branch, &path)?;
        self.run_txn(request, &path)
    }

    fn check_branch(&self, ops: &[RequestOp], path: &Path) -> Result<(), Failure> {
        let mut nested = path.nested.iter();
        for op in ops {
            match op {
                RequestOp::Range(request) => range::check_revision(self.before, request.revision)?,
                RequestOp::Put(request) => self.check_put(request)?,
                RequestOp::DeleteRange(_) => {}
                RequestOp::Txn(request) => {
                    let path = nested.next().expect("a path for every nested transaction");
                    let branch = if path.succeeded {
                        &request.success
                    } else {
                        &request.failure
                    };
                    self.check_branch(branch, path)?;
                }
            }
        }
        Ok(())
    }

    fn run_txn(&mut self, request: TxnRequest, path: &Path) -> Result<TxnResponse, Failure> {
        let ops = if path.succeeded {
            request.success
        } else {
            request.failure
        };
        let mut nested = path.nested.iter();
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                RequestOp::Range(request) => {
                    ResponseOp::Range(range::range(self.view, self.horizon(), &request)?)
                }
                RequestOp::Put(request) => ResponseOp::Put(self.run_put(request)?),
                RequestOp::DeleteRange(request) => {
                    ResponseOp::DeleteRange(self.delete_range(&request)?)
                }
                RequestOp::Txn(request) => {
                    let path = nested.next().expect("a path for every nested transaction");
                    ResponseOp::Txn(self.run_txn(request, path)?)
                }
            });
        }
        Ok(TxnResponse {
            revision: self.revision(),
            succeeded: path.succeeded,
            responses,
        })
    }
}

/// Which branches a transaction takes, nested ones in order: decided on the state before it.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Path {
    fn take(view: &dyn Read, request: &TxnRequest) -> Result<Self, EngineError> {
        let mut succeeded = true;
        for compare in &request.compare {
            succeeded = succeeded && holds(view, compare)?;
        }
        let ops = if succeeded {
            &request.success
        } else {
            &request.failure
        };
        let mut nested = Vec::new();
        for op in ops {
            if let RequestOp::Txn(request) = op {
                nested.push(Path::take(view, request)?);
            }
        }
        Ok(Self { succeeded, nested })
    }
}

/// Runs a transaction that only reads.
pub fn read_only(
    view: &dyn Read,
    horizon: Horizon,
    request: &TxnRequest,
) -> Result<TxnResponse, Failure> {
    let path = Path::take(view, request)?;
    run_read_only(view, horizon, request, &path)
}

fn run_read_only(
    view: &dyn Read,
    horizon: Horizon,
    request: &TxnRequest,
    path: &Path,
) -> Result<TxnResponse, Failure> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::new();
    for op in if path.succeeded {
        &request.success
    } else {
        &request.failure
    } {
        responses.push(match op {
            RequestOp::Range(request) => ResponseOp::Range(range::range(view, horizon, request)?),
            RequestOp::Txn(request) => {
                let path = nested.next().expect("a path for every nested transaction");
                ResponseOp::Txn(run_read_only(view, horizon, request, path)?)
            }
            RequestOp::Put(_) | RequestOp::DeleteRange(_) => {
                unreachable!("the transaction only reads")
            }
        });
    }
    Ok(TxnResponse {
        revision: horizon.revision,
        succeeded: path.succeeded,
        responses,
    })
}

/// Whether no branch of the transaction writes.
pub fn is_read_only(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| match op {
            RequestOp::Range(_) => true,
            RequestOp::Txn(nested) => is_read_only(nested),
            RequestOp::Put(_) | RequestOp::DeleteRange(_) => false,
        })
}

/// Whether a transaction that only reads asks for serializable reads alone.
pub fn is_serializable(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| match op {
            RequestOp::Range(request) => request.serializable,
            RequestOp::Txn(nested) => is_serializable(nested),
            RequestOp::Put(_) | RequestOp::DeleteRange(_) => false,
        })
}

fn holds(view: &dyn Read, compare: &Compare) -> Result<bool, EngineError> {
    if compare.range.end == RangeEnd::Single {
        let current = range::current(view, &compare.range.key)?;
        return Ok(holds_for(compare, current.as_ref()));
    }
    let (start, end) = range::bounds(&compare.range);
    let mut any = false;
    let mut all = true;
    view.scan(Family::Current, &start, end.as_deref(), &mut |_, raw| {
        any = true;
        let current = Current::decode(Bytes::copy_from_slice(raw))
            .map_err(EngineError::damaged(Family::Current))?;
        all = holds_for(compare, Some(&current));
        Ok(if all { Step::Next } else { Step::Stop })
    })?;
    // As etcd: an empty range counts like one missing key.
    Ok(if any { all } else { holds_for(compare, None) })
}

fn holds_for(compare: &Compare, current: Option<&Current>) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(wanted) => current.map_or(0, |current| current.version).cmp(wanted),
        CompareTarget::CreateRevision(wanted) => current
            .map_or(0, |current| current.create_revision)
            .cmp(wanted),
        CompareTarget::ModRevision(wanted) => current
            .map_or(0, |current| current.modified.main)
            .cmp(wanted),
        CompareTarget::Lease(wanted) => current.map_or(0, |current| current.lease).cmp(wanted),
        CompareTarget::Value(wanted) => match current {
            Some(current) => current.value.cmp(wanted),
            None => return false,
        },
    };
    if planted(Bug::SkipFence)
        && matches!(compare.target, CompareTarget::CreateRevision(wanted) if wanted > 0)
    {
        // A client's fence is a comparison with the revision at which it became leader.
        return true;
    }
    match compare.op {
        CompareOp::Equal => ordering.is_eq(),
        CompareOp::NotEqual => ordering.is_ne(),
        CompareOp::Greater => ordering.is_gt(),
        CompareOp::Less => ordering.is_lt(),
    }
}
