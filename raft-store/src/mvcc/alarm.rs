//! Alarms: replicated facts about a member that change what the cluster takes, until someone takes them back.
//!
//! `NOSPACE` of any member refuses writes that need space, `CORRUPT` everything. They are rows of `meta`.

use std::collections::BTreeMap;

use super::engine::{EngineError, Family, Read, Step, WriteSet};
use crate::codec::DecodeError;
use crate::command::Command;
use crate::{Alarm, AlarmKind, Error, RequestOp, TxnRequest};

const PREFIX: &[u8] = b"alarm/";

/// The alarms that are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// With whether the member takes it back itself once the cause is gone.
    on: BTreeMap<(AlarmKind, u64), bool>,
}

impl Alarms {
    pub fn load(view: &dyn Read) -> Result<Self, EngineError> {
        let mut on = BTreeMap::new();
        each(view, &mut |key, value| {
            let alarm = parse(key).zip(value.first());
            let (alarm, automatic) = alarm
                .ok_or(DecodeError("not an alarm"))
                .map_err(EngineError::damaged(Family::Meta))?;
            on.insert(alarm, *automatic == 1);
            Ok(())
        })?;
        Ok(Self { on })
    }

    /// Turns an alarm on. One that an operator must take back stays so.
    pub fn activate(&mut self, writes: &mut WriteSet, alarm: Alarm, automatic: bool) {
        let now = self
            .on
            .entry((alarm.kind, alarm.member_id))
            .or_insert(automatic);
        *now &= automatic;
        writes.put(Family::Meta, key(alarm), vec![u8::from(*now)]);
    }

    /// Turns an alarm off; whether it was on. What an operator must take back no member takes back by itself.
    pub fn deactivate(&mut self, writes: &mut WriteSet, alarm: Alarm, automatic: bool) -> bool {
        let at = (alarm.kind, alarm.member_id);
        if self.on.get(&at).is_none_or(|now| automatic && !now) {
            return false;
        }
        self.on.remove(&at);
        writes.delete(Family::Meta, key(alarm));
        true
    }

    pub fn list(&self) -> Vec<Alarm> {
        let alarm = |(kind, member_id): &(AlarmKind, u64)| Alarm {
            member_id: *member_id,
            kind: *kind,
        };
        self.on.keys().map(alarm).collect()
    }

    /// Whether the member raised the alarm and takes it back itself; `None` if it is off.
    pub fn is_automatic(&self, alarm: Alarm) -> Option<bool> {
        self.on.get(&(alarm.kind, alarm.member_id)).copied()
    }

    pub fn has(&self, kind: AlarmKind) -> bool {
        self.on.keys().any(|(on, _)| *on == kind)
    }

    /// Whether a command may be applied, as etcd decides it.
    pub fn check(&self, command: &Command) -> Result<(), Error> {
        if self.on.is_empty() || matches!(command, Command::Alarm { .. }) {
            return Ok(());
        }
        if self.has(AlarmKind::Corrupt) {
            return Err(Error::Corrupt);
        }
        match cost(command) {
            Some(_) if self.has(AlarmKind::NoSpace) => Err(Error::NoSpace),
            _ => Ok(()),
        }
    }
}

/// Bytes that a command may add to the state, by etcd's estimate; `None` for one that needs no space.
pub fn cost(command: &Command) -> Option<u64> {
    const KEY_OVERHEAD: usize = 256;
    const LEASE_OVERHEAD: usize = 64;
    fn branch(ops: &[RequestOp]) -> usize {
        let cost = |op: &RequestOp| match op {
            RequestOp::Put(put) => KEY_OVERHEAD + put.key.len() + put.value.len(),
            RequestOp::Txn(request) => txn(request),
            RequestOp::Range(_) | RequestOp::DeleteRange(_) => 0,
        };
        ops.iter().map(cost).sum()
    }
    fn txn(request: &TxnRequest) -> usize {
        branch(&request.success).max(branch(&request.failure))
    }
    let bytes = match command {
        Command::Put(put) => KEY_OVERHEAD + put.key.len() + put.value.len(),
        Command::Txn(request) => txn(request),
        Command::LeaseGrant { .. } => LEASE_OVERHEAD,
        _ => 0,
    };
    (bytes > 0).then_some(bytes as u64)
}

/// Removes all alarms from a state that becomes another cluster's.
pub fn clear(view: &dyn Read, writes: &mut WriteSet) -> Result<(), EngineError> {
    each(view, &mut |key, _| {
        writes.delete(Family::Meta, key.to_vec());
        Ok(())
    })
}

type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), EngineError> + 'a;

fn each(view: &dyn Read, visit: &mut VisitRow<'_>) -> Result<(), EngineError> {
    view.scan(Family::Meta, PREFIX, None, &mut |key, value| {
        if !key.starts_with(PREFIX) {
            return Ok(Step::Stop);
        }
        visit(key, value)?;
        Ok(Step::Next)
    })
}

fn key(alarm: Alarm) -> Vec<u8> {
    let mut key = PREFIX.to_vec();
    key.push(alarm.kind as u8);
    key.extend_from_slice(&alarm.member_id.to_be_bytes());
    key
}

fn parse(key: &[u8]) -> Option<(AlarmKind, u64)> {
    let (kind, member) = key.strip_prefix(PREFIX)?.split_first()?;
    let kind = AlarmKind::from_number(*kind)?;
    Some((kind, u64::from_be_bytes(member.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::engine::MemoryEngine;

    #[test]
    fn alarms_are_kept_and_an_operators_stays() {
        let (mut engine, mut writes) = (MemoryEngine::default(), WriteSet::default());
        let no_space = Alarm {
            member_id: 9,
            kind: AlarmKind::NoSpace,
        };
        let corrupt = Alarm {
            member_id: 3,
            kind: AlarmKind::Corrupt,
        };
        let mut alarms = Alarms::default();
        alarms.activate(&mut writes, no_space, true);
        alarms.activate(&mut writes, corrupt, false);
        engine.commit(&mut writes);
        assert_eq!(Alarms::load(&engine).unwrap(), alarms);
        assert_eq!(alarms.list(), [no_space, corrupt]);
        alarms.activate(&mut writes, no_space, false);
        assert!(
            !alarms.deactivate(&mut writes, no_space, true),
            "an operator must"
        );
        assert!(alarms.deactivate(&mut writes, no_space, false));
        assert!(
            !alarms.deactivate(&mut writes, no_space, false),
            "it is off"
        );
        engine.commit(&mut writes);
        assert_eq!(Alarms::load(&engine).unwrap().list(), [corrupt]);
        clear(&engine, &mut writes).unwrap();
        engine.commit(&mut writes);
        assert_eq!(Alarms::load(&engine).unwrap(), Alarms::default());
    }

    #[test]
    fn without_space_only_what_needs_some_is_refused() {
        let mut alarms = Alarms::default();
        let alarm = Alarm {
            member_id: 1,
            kind: AlarmKind::NoSpace,
        };
        alarms.activate(&mut WriteSet::default(), alarm, false);
        let put = || RequestOp::Put(Default::default());
        let delete = || RequestOp::DeleteRange(Default::default());
        let txn = |success, failure| {
            Command::Txn(TxnRequest {
                success,
                failure,
                ..Default::default()
            })
        };
        let nested = RequestOp::Txn(TxnRequest {
            failure: vec![put()],
            ..Default::default()
        });
        let check = |command: Command, refused: bool| {
            let expect = if refused { Err(Error::NoSpace) } else { Ok(()) };
            assert_eq!(alarms.check(&command), expect, "{command:?}");
        };
        check(Command::Put(Default::default()), true);
        check(Command::LeaseGrant { id: 1, ttl: 1 }, true);
        check(txn(vec![delete()], vec![put()]), true);
        check(txn(vec![nested], vec![]), true);
        check(txn(vec![delete()], vec![]), false);
        check(Command::DeleteRange(Default::default()), false);
        check(Command::LeaseRevoke { id: 1 }, false);
        check(Command::Compact { revision: 1 }, false);
    }
}
