//! Apply: one committed command after the other, each to an answer, changes, events and lease effects.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::alarm::Alarms;
use super::engine::{EngineError, Family, Overlay, Read, Step, WriteSet};
use super::txn::Write;
use super::{Failure, Horizon, keys, range};
use crate::codec::{Reader, put_i64};
use crate::command::{Command, Outcome};
use crate::planted::{Bug, planted};
use crate::types::FenceKind;
use crate::*;

/// The part of the state kept in memory: small, and rebuilt from the engine at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mvcc {
    pub horizon: Horizon,
    /// Lease → granted time to live, seconds.
    pub leases: BTreeMap<i64, i64>,
    pub alarms: Arc<Alarms>,
}

/// What applying did besides changing rows.
#[derive(Debug, Default)]
pub struct Effects {
    /// In order; a revision's events lie together.
    pub events: Vec<Arc<Event>>,
    pub leases: Vec<LeaseEffect>,
    /// The floor moved.
    pub compacted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    Granted { id: i64, ttl: i64 },
    Revoked { id: i64 },
}

const REVISION: &[u8] = b"revision";
const COMPACTED: &[u8] = b"compacted";

impl Mvcc {
    /// Reads the state an engine holds; an empty one is at revision 1, as etcd's.
    pub fn load(view: &dyn Read) -> Result<Self, EngineError> {
        let number = |key| -> Result<Option<i64>, EngineError> {
            let raw = view.get(Family::Meta, key)?;
            raw.map(|raw| Reader::new(raw).i64())
                .transpose()
                .map_err(EngineError::damaged(Family::Meta))
        };
        let horizon = Horizon {
            revision: number(REVISION)?.unwrap_or(1),
            compacted: number(COMPACTED)?.unwrap_or(0),
        };
        let mut leases = BTreeMap::new();
        view.scan(Family::Leases, b"L", Some(b"M"), &mut |key, value| {
            let id = keys::parse_tagged_id(key).ok_or(codec::DecodeError("not a lease id"));
            let id = id.map_err(EngineError::damaged(Family::Leases))?;
            let ttl = Reader::new(Bytes::copy_from_slice(value)).i64();
            leases.insert(id, ttl.map_err(EngineError::damaged(Family::Leases))?);
            Ok(Step::Next)
        })?;
        Ok(Self {
            horizon,
            leases,
            alarms: Arc::new(Alarms::load(view)?),
        })
    }

    /// Applies one command that entered the log in `term`. `Err` is the engine's failure: apply must stop.
    pub fn apply(
        &mut self,
        base: &dyn Read,
        writes: &mut WriteSet,
        effects: &mut Effects,
        term: u64,
        command: Command,
    ) -> Result<Result<Outcome, Error>, EngineError> {
        let mut view = Overlay { base, writes };
        match self.run(&mut view, effects, term, command) {
            Ok(outcome) => Ok(Ok(outcome)),
            Err(Failure::Refused(error)) => Ok(Err(error)),
            Err(Failure::Engine(error)) => Err(error),
        }
    }

    fn run(
        &mut self,
        view: &mut Overlay<'_>,
        effects: &mut Effects,
        term: u64,
        command: Command,
    ) -> Result<Outcome, Failure> {
        self.alarms.check(&command)?;
        match command {
            Command::Put(request) => {
                self.write(view, effects, |write| write.put(request).map(Outcome::Put))
            }
            Command::DeleteRange(request) => self.write(view, effects, |write| {
                write.delete_range(&request).map(Outcome::DeleteRange)
            }),
            Command::Txn(request) => {
                check_fence(view, term, request.fence.as_ref())?;
                self.write(view, effects, |write| write.txn(request).map(Outcome::Txn))
            }
            Command::Compact { revision } => self.compact(view, effects, revision),
            Command::LeaseGrant { id, ttl } => self.grant(view, effects, id, ttl),
            Command::LeaseRevoke { id } => self.revoke(view, effects, id),
            Command::Alarm {
                alarm,
                on,
                automatic,
            } => Ok(self.set_alarm(view.writes, alarm, on, automatic)),
        }
    }

    fn write(
        &mut self,
        view: &mut Overlay<'_>,
        effects: &mut Effects,
        run: impl FnOnce(&mut Write<'_, '_>) -> Result<Outcome, Failure>,
    ) -> Result<Outcome, Failure> {
        let mut write = Write::new(view, self.horizon, &mut effects.events);
        let outcome = run(&mut write)?;
        self.horizon.revision = write.revision();
        Ok(outcome)
    }

    /// Puts the revision into the batch; called once per batch, after its last command.
    pub fn save(&self, writes: &mut WriteSet) {
        writes.put(Family::Meta, REVISION, number(self.horizon.revision));
        writes.put(Family::Meta, COMPACTED, number(self.horizon.compacted));
    }

    fn compact(
        &mut self,
        _: &mut Overlay<'_>,
        effects: &mut Effects,
        revision: i64,
    ) -> Result<Outcome, Failure> {
        if revision <= self.horizon.compacted {
            return Err(Error::Compacted {
                compact_revision: self.horizon.compacted,
            }
            .into());
        }
        if revision > self.horizon.revision {
            return Err(Error::FutureRevision {
                revision: self.horizon.revision,
            }
            .into());
        }
        self.horizon.compacted = revision;
        effects.compacted = true;
        Ok(Outcome::Compact(CompactResponse {
            revision: self.horizon.revision,
        }))
    }

    fn grant(
        &mut self,
        view: &mut Overlay<'_>,
        effects: &mut Effects,
        id: i64,
        ttl: i64,
    ) -> Result<Outcome, Failure> {
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExists.into());
        }
        self.leases.insert(id, ttl);
        view.writes
            .put(Family::Leases, keys::lease_key(id).to_vec(), number(ttl));
        effects.leases.push(LeaseEffect::Granted { id, ttl });
        Ok(Outcome::LeaseGrant(LeaseGrantResponse {
            revision: self.horizon.revision,
            id,
            ttl,
        }))
    }

    /// Answers with the alarm that is now on, or was turned off.
    fn set_alarm(
        &mut self,
        writes: &mut WriteSet,
        alarm: Alarm,
        on: bool,
        automatic: bool,
    ) -> Outcome {
        let alarms = Arc::make_mut(&mut self.alarms);
        let concerned = if on {
            alarms.activate(writes, alarm, automatic);
            true
        } else {
            alarms.deactivate(writes, alarm, automatic)
        };
        Outcome::Alarm(AlarmResponse {
            revision: self.horizon.revision,
            alarms: concerned.then_some(alarm).into_iter().collect(),
        })
    }

    /// Ends a lease; its keys go in one revision, in order.
    fn revoke(
        &mut self,
        view: &mut Overlay<'_>,
        effects: &mut Effects,
        id: i64,
    ) -> Result<Outcome, Failure> {
        if self.leases.remove(&id).is_none() {
            return Err(Error::LeaseNotFound.into());
        }
        let attached = attached_keys(view, id)?;
        view.writes
            .delete(Family::Leases, keys::lease_key(id).to_vec());
        effects.leases.push(LeaseEffect::Revoked { id });
        self.write(view, effects, |write| {
            for key in attached {
                if let Some(current) = range::current(write.view, &key)? {
                    write.delete(key, &current);
                }
            }
            Ok(Outcome::LeaseRevoke(LeaseRevokeResponse {
                revision: write.revision(),
            }))
        })
    }
}

/// The keys attached to a lease, in order.
pub fn attached_keys(view: &dyn Read, id: i64) -> Result<Vec<Bytes>, EngineError> {
    let prefix = keys::attachments(id);
    let mut found = Vec::new();
    view.scan(Family::Leases, &prefix, None, &mut |row, _| {
        let Some(key) = row.strip_prefix(&prefix) else {
            return Ok(Step::Stop);
        };
        found.push(Bytes::copy_from_slice(key));
        Ok(Step::Next)
    })?;
    Ok(found)
}

fn check_fence(view: &dyn Read, term: u64, fence: Option<&Fence>) -> Result<(), Failure> {
    let holds = match fence.map(|fence| &fence.0) {
        None => true,
        Some(FenceKind::Term(wanted)) => *wanted == term,
        Some(FenceKind::Key {
            key,
            create_revision,
        }) => {
            let current = range::current(view, key)?;
            current.is_some_and(|current| current.create_revision == *create_revision)
        }
    };
    if holds || planted(Bug::SkipFence) {
        Ok(())
    } else {
        Err(Error::Fenced.into())
    }
}

fn number(value: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(4);
    put_i64(&mut out, value);
    out
}
