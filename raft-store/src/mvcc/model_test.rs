//! The core against a simple model: whole states kept per revision, every request answered by looking through them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::apply::{Effects, Mvcc};
use super::compact::{self, Cleaned};
use super::engine::{Family, MemoryEngine, WriteSet};
use super::{hash, history, range};
use crate::command::{Batch, Command, Origin, Outcome};
use crate::*;

type State = BTreeMap<Bytes, KeyValue>;

/// What the store should hold: the state at every revision, from 1 on.
struct Model {
    states: Vec<State>,
    leases: BTreeMap<i64, i64>,
    compacted: i64,
}

impl Model {
    fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    fn at(&self, revision: i64) -> &State {
        &self.states[revision as usize - 1]
    }

    fn commit(&mut self, next: State) {
        if &next != self.at(self.revision()) {
            self.states.push(next);
        }
    }

    fn put(state: &mut State, revision: i64, request: &PutRequest) {
        let old = state.get(&request.key).cloned().unwrap_or_default();
        let create_revision = if old.version == 0 {
            revision
        } else {
            old.create_revision
        };
        let value = if request.ignore_value {
            old.value
        } else {
            request.value.clone()
        };
        let lease = if request.ignore_lease {
            old.lease
        } else {
            request.lease
        };
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision,
            mod_revision: revision,
            version: old.version + 1,
            value,
            lease,
        };
        state.insert(request.key.clone(), kv);
    }

    fn apply(&mut self, command: &Command) -> Result<(), Error> {
        let mut next = self.at(self.revision()).clone();
        let revision = self.revision() + 1;
        match command {
            Command::Put(request) => {
                if (request.ignore_value || request.ignore_lease)
                    && !next.contains_key(&request.key)
                {
                    return Err(Error::KeyNotFound);
                }
                if request.lease != 0 && !self.leases.contains_key(&request.lease) {
                    return Err(Error::LeaseNotFound);
                }
                Self::put(&mut next, revision, request);
            }
            Command::DeleteRange(request) => next.retain(|key, _| !request.range.contains(key)),
            Command::Txn(request) => {
                let Compare {
                    range,
                    target: CompareTarget::ModRevision(wanted),
                    ..
                } = &request.compare[0]
                else {
                    unreachable!("the strategy makes no other")
                };
                let held = next.get(&range.key).map_or(0, |kv| kv.mod_revision) == *wanted;
                for op in if held {
                    &request.success
                } else {
                    &request.failure
                } {
                    match op {
                        RequestOp::Put(put) => Self::put(&mut next, revision, put),
                        RequestOp::DeleteRange(delete) => {
                            next.retain(|key, _| !delete.range.contains(key))
                        }
                        RequestOp::Range(_) | RequestOp::Txn(_) => {}
                    }
                }
            }
            Command::Compact { revision } => {
                if *revision <= self.compacted {
                    return Err(Error::Compacted {
                        compact_revision: self.compacted,
                    });
                }
                if *revision > self.revision() {
                    return Err(Error::FutureRevision {
                        revision: self.revision(),
                    });
                }
                self.compacted = *revision;
            }
            Command::LeaseGrant { id, ttl } => {
                if self.leases.contains_key(id) {
                    return Err(Error::LeaseExists);
                }
                self.leases.insert(*id, *ttl);
            }
            Command::Alarm { .. } => unreachable!("not generated"),
            Command::LeaseRevoke { id } => {
                self.leases.remove(id).ok_or(Error::LeaseNotFound)?;
                next.retain(|_, kv| kv.lease != *id);
            }
        }
        self.commit(next);
        Ok(())
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just("a"),
        Just("a\0"),
        Just("a\0b"),
        Just("ab"),
        Just("b"),
        Just("b\u{1}")
    ]
    .prop_map(Bytes::from)
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::single),
        (key(), key()).prop_map(|(start, end)| KeyRange::span(start, end)),
        key().prop_map(|key| KeyRange {
            key,
            end: RangeEnd::Unbounded
        }),
        Just(KeyRange::all()),
    ]
}

fn put() -> impl Strategy<Value = PutRequest> {
    (key(), 0..100u8, 0..3i64, 0..6u8).prop_map(|(key, value, lease, ignore)| PutRequest {
        key,
        value: if ignore == 1 {
            Bytes::new()
        } else {
            vec![value].into()
        },
        lease: if ignore == 2 { 0 } else { lease },
        prev_kv: true,
        ignore_value: ignore == 1,
        ignore_lease: ignore == 2,
    })
}

fn plain_put() -> impl Strategy<Value = RequestOp> {
    (key(), 0..100u8).prop_map(|(key, value)| {
        RequestOp::Put(PutRequest {
            key,
            value: vec![value].into(),
            ..Default::default()
        })
    })
}

fn branch() -> impl Strategy<Value = Vec<RequestOp>> {
    let delete = key_range().prop_map(|range| {
        RequestOp::DeleteRange(DeleteRangeRequest {
            range,
            prev_kv: false,
        })
    });
    proptest::collection::vec(prop_oneof![plain_put(), delete], 0..3)
}

fn command() -> impl Strategy<Value = Command> {
    let txn = (key(), 0..30i64, branch(), branch()).prop_map(|(key, wanted, success, failure)| {
        let target = CompareTarget::ModRevision(wanted);
        let compare = vec![Compare {
            range: KeyRange::single(key),
            op: CompareOp::Equal,
            target,
        }];
        Command::Txn(TxnRequest {
            compare,
            success,
            failure,
            fence: None,
        })
    });
    prop_oneof![
        6 => put().prop_map(Command::Put),
        2 => key_range().prop_map(|range| Command::DeleteRange(DeleteRangeRequest { range, prev_kv: true })),
        2 => txn.prop_filter("writes each key once", |command| match command {
            Command::Txn(request) => super::validate::txn(request, 128).is_ok(),
            _ => true,
        }),
        1 => (0..40i64).prop_map(|revision| Command::Compact { revision }),
        1 => (1..3i64).prop_map(|id| Command::LeaseGrant { id, ttl: 10 }),
        1 => (1..3i64).prop_map(|id| Command::LeaseRevoke { id }),
    ]
}

/// One member: an engine, what is pending on top of it, and the core.
struct Member {
    engine: MemoryEngine,
    mvcc: Mvcc,
    writes: WriteSet,
}

impl Member {
    fn new() -> Self {
        let engine = MemoryEngine::default();
        let mvcc = Mvcc::load(&engine).unwrap();
        Self {
            engine,
            mvcc,
            writes: WriteSet::default(),
        }
    }

    fn apply(&mut self, command: Command, effects: &mut Effects) -> Result<Outcome, Error> {
        self.mvcc
            .apply(&self.engine, &mut self.writes, effects, 1, command)
            .unwrap()
    }

    fn commit(&mut self) {
        self.mvcc.save(&mut self.writes);
        self.engine.commit(&mut self.writes);
    }

    /// Cleans up behind the floor, in tiny steps.
    fn clean(&mut self) {
        let mut at = Cleaned::load(&self.engine).unwrap();
        while !at.has_reached(self.mvcc.horizon.compacted) {
            at = compact::step(
                &self.engine,
                at,
                self.mvcc.horizon.compacted,
                2,
                &mut self.writes,
            )
            .unwrap();
            self.engine.commit(&mut self.writes);
        }
    }

    fn read(&self, range: KeyRange, revision: i64) -> Result<RangeResponse, Error> {
        let request = RangeRequest {
            range,
            revision,
            ..Default::default()
        };
        range::range(&self.engine, self.mvcc.horizon, &request).map_err(Error::from)
    }
}

/// Of a part of the keys the same must be read as of all.
fn check_parts(member: &Member, revision: i64, all: &Result<RangeResponse, Error>) {
    let Ok(all) = all else {
        return;
    };
    for range in [
        KeyRange::single("a"),
        KeyRange::single("b"),
        KeyRange::span("a\0", "ab"),
        KeyRange::span("a\0b", "b\u{1}"),
    ] {
        let expected: Vec<_> = all
            .kvs
            .iter()
            .filter(|kv| range.contains(&kv.key))
            .collect();
        let part = member.read(range.clone(), revision).unwrap();
        assert_eq!(
            part.kvs.iter().collect::<Vec<_>>(),
            expected,
            "{range:?} at {revision}"
        );
    }
}

fn check_reads(member: &Member, model: &Model) {
    let newest = model.revision();
    for revision in 0..=newest + 1 {
        let answer = member.read(KeyRange::all(), revision);
        check_parts(member, revision, &answer);
        if revision > newest {
            assert_eq!(answer, Err(Error::FutureRevision { revision: newest }));
        } else if revision > 0 && revision < model.compacted {
            assert_eq!(
                answer,
                Err(Error::Compacted {
                    compact_revision: model.compacted
                })
            );
        } else {
            let at = if revision == 0 { newest } else { revision };
            let expected: Vec<_> = model.at(at).values().cloned().collect();
            let answer = answer.unwrap();
            assert_eq!(
                (answer.revision, answer.count),
                (newest, expected.len() as i64)
            );
            assert_eq!(answer.kvs, expected, "at revision {revision}");
        }
    }
}

/// Events must lead from each state to the next.
fn check_events(events: &[std::sync::Arc<Event>], model: &Model) {
    let mut state = model.at(1).clone();
    let mut at = 1;
    for revision in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
        for event in revision {
            assert_eq!(
                event.prev_kv.as_ref(),
                state.get(&event.kv.key),
                "what the event replaced"
            );
            match event.kind {
                EventKind::Put => drop(state.insert(event.kv.key.clone(), event.kv.clone())),
                EventKind::Delete => drop(state.remove(&event.kv.key)),
            }
        }
        at += 1;
        assert_eq!(revision[0].kv.mod_revision, at);
        assert_eq!(&state, model.at(at));
    }
    assert_eq!(at, model.revision());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_core_does_what_the_model_does(
        commands in proptest::collection::vec((command(), any::<bool>(), any::<bool>()), 1..40)
    ) {
        let mut model = Model { states: vec![State::new()], leases: BTreeMap::new(), compacted: 0 };
        let (mut member, mut lazy) = (Member::new(), Member::new());
        let mut effects = Effects::default();
        for (command, commit, clean) in commands {
            let expected = model.apply(&command);
            let answer = member.apply(command.clone(), &mut effects);
            prop_assert_eq!(answer.map(drop), expected);
            let _ = lazy.apply(command, &mut Effects::default());
            if commit {
                member.commit();
                if clean {
                    member.clean();
                }
            }
        }
        member.commit();
        check_reads(&member, &model);
        check_events(&effects.events, &model);
        member.clean();
        check_reads(&member, &model);
        // A member that never cleaned up, and applied all as one batch, has the same hash.
        lazy.commit();
        let hash = |member: &Member| hash::hash_kv(&member.engine, member.mvcc.horizon, 0).unwrap();
        prop_assert_eq!(hash(&member), hash(&lazy));
        // What is in memory can be rebuilt.
        prop_assert_eq!(Mvcc::load(&member.engine).unwrap(), member.mvcc.clone());
        // Cleaned up to the newest revision, one row per living key is left, and deletions of just now.
        if member.mvcc.horizon.compacted == model.revision() {
            let state = model.at(model.revision());
            let marked = state.values().filter(|kv| history::is_marked(kv.version)).count();
            let deleted = effects.events.iter()
                .filter(|event| event.kind == EventKind::Delete && event.kv.mod_revision == model.revision()).count();
            prop_assert_eq!(member.engine.len(Family::Kv), marked + deleted);
            prop_assert_eq!(member.engine.len(Family::Rev), state.len() + deleted);
        }
    }

    #[test]
    fn batches_round_trip(commands in proptest::collection::vec(command(), 0..5), sequence: u64) {
        let batch = Batch { origin: Origin { member: 1, boot: u64::MAX, sequence }, commands };
        let mut raw = Vec::new();
        batch.encode(&mut raw);
        prop_assert_eq!(Batch::decode(raw.into()).unwrap(), batch);
    }

    #[test]
    fn foreign_bytes_do_not_panic(raw: Vec<u8>) {
        let mut framed = vec![1; 17];
        framed.extend(&raw);
        let _ = Batch::decode(raw.into());
        let _ = Batch::decode(framed.into());
    }
}
