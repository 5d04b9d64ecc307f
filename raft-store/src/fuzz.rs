//! Every decoder that faces the network or the disk, fed with foreign bytes: none may panic, loop or ask for memory
//! beyond its input. Used by a property test here and by `examples/fuzz_decoders.rs` for long runs.

use bytes::Bytes;

use crate::codec::{put_bytes, put_u64};
use crate::command::{Batch, Command, Origin};
use crate::log::decode_foreign;
use crate::mvcc::engine::Family;
use crate::mvcc::keys;
use crate::mvcc::record::{Change, Current, Version};
use crate::raft::{Membership, StoredMembership};
use crate::snapshot::{decode_foreign_block, encode_rows};
use crate::*;

/// Decodes `data` as everything it could be; what decodes must encode to what decodes to the same.
pub fn decode(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(batch) = Batch::decode(bytes.clone()) {
        let mut out = Vec::new();
        batch.encode(&mut out);
        assert_eq!(Batch::decode(out.into()).as_ref(), Ok(&batch));
    }
    if let Ok(current) = Current::decode(bytes.clone()) {
        assert_eq!(Current::decode(current.encode().into()), Ok(current));
    }
    if let Ok(version) = Version::decode(data) {
        assert_eq!(Version::decode(&version.encode()), Ok(version));
    }
    if let Ok(change) = Change::decode(bytes.clone()) {
        let again = Change::decode(change.encode().into());
        assert_eq!(again, Ok(change));
    }
    if let Some((escaped, _)) = keys::split_version_key(data) {
        assert_eq!(escaped.len() + 10, data.len());
    }
    if let Some(revision) = keys::parse_revision_key(data) {
        assert_eq!(keys::revision_key(revision), data);
    }
    let _ = keys::parse_tagged_id(data);
    let _: Result<Membership, _> = serde_json::from_slice(data);
    let _: Result<StoredMembership, _> = serde_json::from_slice(data);
    decode_foreign(&bytes);
    decode_peer(&bytes);
    decode_foreign_block(&bytes);
}

/// What another member may send.
fn decode_peer(bytes: &Bytes) {
    if let Ok(request) = peer::decode_append(bytes.clone()) {
        let again =
            peer::decode_append(peer::encode_append(&request)).expect("it was just encoded");
        assert_eq!(again.entries, request.entries);
    }
    if let Ok(answer) = peer::decode_append_answer(bytes.clone()) {
        let again = peer::decode_append_answer(peer::encode_append_answer(&answer));
        assert_eq!(again, Ok(answer));
    }
    if let Ok((term, proposal)) = peer::decode_proposal(bytes.clone()) {
        let again = peer::decode_proposal(peer::encode_proposal(term, &proposal));
        assert_eq!(again, Ok((term, proposal)));
    }
    peer::decode_foreign_frame(bytes);
}

/// A batch with every command.
fn batch() -> Batch {
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

/// Well-formed inputs, from which mutated ones are made.
pub fn samples() -> Vec<Vec<u8>> {
    let batch = batch();
    let mut encoded = Vec::new();
    batch.encode(&mut encoded);
    let change = Change {
        deleted: false,
        key: "key".into(),
        create_revision: 5,
        version: 2,
        lease: 0,
        previous: Some(keys::Revision { main: 4, sub: 1 }),
        value: "value".into(),
    };
    let current = Current {
        create_revision: 5,
        modified: keys::Revision { main: 9, sub: 300 },
        version: 2,
        lease: 1,
        value: "value".into(),
    };
    let mut rows = vec![Family::Rev as u8];
    put_bytes(&mut rows, b"key");
    put_u64(&mut rows, 3);
    rows.extend_from_slice(b"abc");
    vec![
        crate::log::sample_records(&batch),
        peer::encode_proposal(3, &batch.clone().into()).into(),
        peer::encode_append(&peer::sample_append(&batch)).into(),
        peer::sample_frame(),
        encoded,
        change.encode(),
        current.encode(),
        keys::version_key(b"a\0b", 9),
        rows,
        encode_rows(Family::Kv, &[(b"key", b"value"), (b"", b"")]),
        serde_json::to_vec(&StoredMembership::default()).expect("a membership is JSON"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_written_decodes() {
        let samples = samples();
        samples.iter().for_each(|sample| decode(sample));
        let batches = samples
            .iter()
            .map(|sample| Batch::decode(sample.clone().into()));
        assert_eq!(
            batches
                .flatten()
                .map(|batch| batch.commands.len())
                .collect::<Vec<_>>(),
            [6]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn foreign_bytes_are_refused_not_feared(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            decode(&data);
        }

        #[test]
        fn mutated_bytes_are_refused_not_feared(
            sample: proptest::sample::Index,
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
            cut in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let samples = samples();
            let mut data = sample.get(&samples).clone();
            for (at, byte) in edits {
                let at = at.index(data.len());
                data[at] = byte;
            }
            if let Some(cut) = cut {
                data.truncate(cut.index(data.len()));
            }
            decode(&data);
        }
    }
}
