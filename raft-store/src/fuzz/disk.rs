//! What this member may find on its disk, one piece at a time: rows of the state, records of the log, blocks of a
//! snapshot, the file that names the member.

use bytes::Bytes;

use super::Target;
use super::peers::{json, one};
use crate::codec::{Reader, put_bytes, put_i64, put_u64};
use crate::command::{Batch, Command, Origin};
use crate::data_dir::{Identity, decode_identity};
use crate::log;
use crate::mvcc::alarm::Alarms;
use crate::mvcc::apply::Mvcc;
use crate::mvcc::compact::Cleaned;
use crate::mvcc::engine::{EngineError, Family, Overlay, Read, Visit, WriteSet};
use crate::mvcc::keys::{self, Revision};
use crate::mvcc::record::{Change, Current, Version};
use crate::raft::{Membership, StoredMembership, load_applied, load_removed, log_id, save_applied};
use crate::snapshot::{decode_foreign_block, encode_rows};
use crate::*;

pub const TARGETS: &[Target] = &[
    Target::new("batches", batches, decode_batch),
    Target::new("current states", currents, current),
    Target::new("versions", versions, version),
    Target::new("changes", changes, change),
    Target::new("keys of versions", version_keys, version_key),
    Target::new("keys of revisions", revision_keys, revision_key),
    Target::new("keys of leases", lease_keys, |data| {
        keys::parse_tagged_id(data).is_some()
    }),
    Target::new("rows that are read at the start", meta_rows, load_rows),
    Target::new(
        "membership",
        || one(&Membership::default()),
        json::<Membership>,
    ),
    Target::new(
        "stored membership",
        || one(&StoredMembership::default()),
        json::<StoredMembership>,
    ),
    Target::new("records of the log", records, |data| {
        log::decode_foreign(&Bytes::copy_from_slice(data))
    }),
    Target::new("blocks of a snapshot", blocks, |data| {
        decode_foreign_block(&Bytes::copy_from_slice(data))
    }),
    Target::new("store.json", identities, identity),
];

fn decode_batch(data: &[u8]) -> bool {
    let Ok(batch) = Batch::decode(Bytes::copy_from_slice(data)) else {
        return false;
    };
    let mut out = Vec::new();
    batch.encode(&mut out);
    assert_eq!(Batch::decode(out.into()), Ok(batch));
    true
}

fn current(data: &[u8]) -> bool {
    let Ok(current) = Current::decode(Bytes::copy_from_slice(data)) else {
        return false;
    };
    assert_eq!(Current::decode(current.encode().into()), Ok(current));
    true
}

fn version(data: &[u8]) -> bool {
    let Ok(version) = Version::decode(data) else {
        return false;
    };
    assert_eq!(Version::decode(&version.encode()), Ok(version));
    true
}

fn change(data: &[u8]) -> bool {
    let Ok(change) = Change::decode(Bytes::copy_from_slice(data)) else {
        return false;
    };
    assert_eq!(Change::decode(change.encode().into()), Ok(change));
    true
}

fn version_key(data: &[u8]) -> bool {
    let Some((escaped, _)) = keys::split_version_key(data) else {
        return false;
    };
    assert_eq!(escaped.len() + 10, data.len());
    true
}

fn revision_key(data: &[u8]) -> bool {
    let Some(revision) = keys::parse_revision_key(data) else {
        return false;
    };
    assert_eq!(keys::revision_key(revision), data);
    true
}

/// An engine without a row.
struct Nothing;

impl Read for Nothing {
    fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(None)
    }

    fn scan(
        &self,
        _: Family,
        _: &[u8],
        _: Option<&[u8]>,
        _: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Everything that a start reads of the state: revisions, leases, alarms, how far cleaning has come, what was applied, who
/// was removed. Whether all of it was taken.
fn load_rows(data: &[u8]) -> bool {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let mut writes = WriteSet::default();
    while let (Ok(family), Ok(key), Ok(value)) = (reader.u8(), reader.bytes(), reader.bytes()) {
        let family = Family::ALL[usize::from(family) % Family::ALL.len()];
        writes.put(family, key, value);
    }
    let view = Overlay {
        base: &Nothing,
        writes: &mut writes,
    };
    let loaded = [
        Mvcc::load(&view).map(drop),
        Alarms::load(&view).map(drop),
        Cleaned::load(&view).map(drop),
        load_applied(&view).map(drop),
        load_removed(&view).map(drop),
    ];
    loaded.iter().all(Result::is_ok)
}

fn identity(data: &[u8]) -> bool {
    let Ok(identity) = decode_identity(data) else {
        return false;
    };
    let again = serde_json::to_vec(&identity).expect("an identity is JSON");
    assert_eq!(decode_identity(&again), Ok(identity));
    true
}

/// A batch with every command.
pub fn batch() -> Batch {
    let put = PutRequest {
        key: "key".into(),
        value: "value".into(),
        lease: -7,
        prev_kv: true,
        ..Default::default()
    };
    let range = KeyRange::span("a", "z");
    let txn = TxnRequest {
        compare: vec![Compare {
            range: range.clone(),
            op: CompareOp::Less,
            target: CompareTarget::Value("v".into()),
        }],
        success: vec![
            RequestOp::Put(put.clone()),
            RequestOp::Range(RangeRequest {
                range: range.clone(),
                limit: 5,
                ..Default::default()
            }),
        ],
        failure: vec![RequestOp::Txn(TxnRequest {
            failure: vec![RequestOp::DeleteRange(DeleteRangeRequest {
                range,
                prev_kv: true,
            })],
            ..Default::default()
        })],
        fence: Some(Fence::key("leader", 9)),
    };
    let alarm = Alarm {
        member_id: 77,
        kind: AlarmKind::NoSpace,
    };
    Batch {
        origin: Origin {
            member: 1,
            boot: 2,
            sequence: 3,
        },
        commands: vec![
            Command::Put(put),
            Command::Txn(txn),
            Command::Compact { revision: 9 },
            Command::LeaseGrant { id: 1, ttl: 60 },
            Command::LeaseRevoke { id: 1 },
            Command::Alarm {
                alarm,
                on: true,
                automatic: false,
            },
        ],
    }
}

fn batches() -> Vec<Vec<u8>> {
    let mut encoded = Vec::new();
    batch().encode(&mut encoded);
    vec![encoded]
}

fn currents() -> Vec<Vec<u8>> {
    let current = Current {
        create_revision: 5,
        modified: Revision { main: 9, sub: 300 },
        version: 2,
        lease: 1,
        value: "value".into(),
    };
    vec![current.encode()]
}

fn versions() -> Vec<Vec<u8>> {
    let version = |sub, deleted| Version { sub, deleted }.encode();
    vec![version(300, false), version(0, true)]
}

fn changes() -> Vec<Vec<u8>> {
    let change = Change {
        deleted: false,
        key: "key".into(),
        create_revision: 5,
        version: 2,
        lease: 0,
        previous: Some(Revision { main: 4, sub: 1 }),
        value: "value".into(),
    };
    vec![change.encode()]
}

fn version_keys() -> Vec<Vec<u8>> {
    vec![
        keys::version_key(b"a\0b", 9),
        keys::version_key(b"", i64::MAX),
    ]
}

fn revision_keys() -> Vec<Vec<u8>> {
    vec![keys::revision_key(Revision { main: 9, sub: 300 }).to_vec()]
}

fn lease_keys() -> Vec<Vec<u8>> {
    vec![
        keys::lease_key(-7).to_vec(),
        keys::attachment_key(7, b"key"),
    ]
}

fn meta_rows() -> Vec<Vec<u8>> {
    let mut writes = WriteSet::default();
    let mut alarms = Alarms::default();
    for (kind, automatic) in [(AlarmKind::NoSpace, true), (AlarmKind::Corrupt, false)] {
        let alarm = Alarm {
            member_id: 77,
            kind,
        };
        alarms.activate(&mut writes, alarm, automatic);
    }
    save_applied(&mut writes, log_id(3, 300), &StoredMembership::default());
    let mut cleaned = Vec::new();
    for number in [300, 299, 1, 500] {
        put_i64(&mut cleaned, number);
    }
    writes.put(Family::Meta, "cleaned", cleaned);
    writes.put(Family::Meta, "raft-removed", "[1,18446744073709551615]");
    for name in ["revision", "compacted"] {
        let mut number = Vec::new();
        put_i64(&mut number, 300);
        writes.put(Family::Meta, name, number);
    }
    let mut ttl = Vec::new();
    put_i64(&mut ttl, 60);
    writes.put(Family::Leases, keys::lease_key(-7).to_vec(), ttl);
    let mut out = Vec::new();
    for family in Family::ALL {
        for (key, value) in writes.family(family) {
            out.push(family as u8);
            put_bytes(&mut out, key);
            put_bytes(&mut out, value.as_ref().expect("nothing was deleted"));
        }
    }
    vec![out]
}

fn records() -> Vec<Vec<u8>> {
    vec![log::sample_records(&batch())]
}

fn blocks() -> Vec<Vec<u8>> {
    let mut rows = vec![Family::Rev as u8];
    put_bytes(&mut rows, b"key");
    put_u64(&mut rows, 3);
    rows.extend_from_slice(b"abc");
    // The first byte is the block's kind.
    rows.insert(0, 2);
    vec![
        rows,
        encode_rows(Family::Kv, &[(b"key", b"value"), (b"", b"")]),
    ]
}

fn identities() -> Vec<Vec<u8>> {
    let mut joined = Identity::new(3, 4);
    joined.joined = true;
    [Identity::new(1, 2), joined].iter().flat_map(one).collect()
}
