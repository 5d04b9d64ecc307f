//! Every decoder that faces clients, fed with foreign bytes: none may panic, loop or ask for memory beyond its input. One row
//! per decoder; a short run of each is a test, `examples/fuzz_requests.rs` makes long ones.

mod requests;

use bytes::Bytes;
use prost::Message;
use raft_store::fuzz::{Target, validate_txn};
use xebec_proto::etcdserverpb as pb;

use crate::authority::{PREFACE, mend_foreign};
use crate::convert;
use crate::framing::Framing;

/// Operations of a transaction, as by default.
const MAX_OPS: usize = 128;
/// Bytes of a message; small, so that inputs are too large, too.
const MAX_MESSAGE: usize = 200;

const TARGETS: &[Target] = &[
    Target::new("frame of a unary call", frames, framing),
    Target::new("headers with a URL as authority", headers, authority),
    Target::new("range, for the store", ranges, range),
    Target::new("put, for the store", puts, put),
    Target::new("delete, for the store", deletes, delete),
    Target::new("transaction, for the store", txns, txn),
];

/// All decoders of the API.
pub fn targets() -> Vec<&'static Target> {
    let tables = [TARGETS, requests::PROTOBUF, requests::JSON];
    tables.into_iter().flatten().collect()
}

/// A byte that says in how large pieces the rest arrives.
fn framing(data: &[u8]) -> bool {
    let Some((size, body)) = data.split_first() else {
        return false;
    };
    let mut framing = Framing::new(MAX_MESSAGE);
    for piece in body.chunks(usize::from(*size).max(1)) {
        if framing.take(Bytes::copy_from_slice(piece)).is_err() {
            return false;
        }
    }
    let Ok(message) = framing.end() else {
        return false;
    };
    assert_eq!(message, body[5..]);
    true
}

fn frames() -> Vec<Vec<u8>> {
    let frame = |size: u8, content: &[u8]| {
        let len = u32::try_from(content.len()).expect("it is short");
        [&[size, 0][..], &len.to_be_bytes(), content].concat()
    };
    vec![frame(3, b"message"), frame(255, b""), frame(1, &[7; 150])]
}

/// However the bytes are cut, the same comes out.
fn authority(data: &[u8]) -> bool {
    let connection = [PREFACE, data].concat();
    let whole = mend_foreign(&connection, connection.len());
    assert_eq!(whole, mend_foreign(&connection, 7));
    whole != connection
}

fn headers() -> Vec<Vec<u8>> {
    let value = b"http://127.0.0.1:2379";
    let block = [&[0x83, 0x86, 0x41, value.len() as u8][..], value].concat();
    let frame = |flags: u8, before: &[u8], after: &[u8]| {
        let payload = [before, &block, after].concat();
        let len = payload.len() as u8;
        [&[0, 0, len, 1, flags, 0, 0, 0, 1][..], &payload].concat()
    };
    vec![
        frame(0x4, &[], &[]),
        frame(0x4 | 0x8 | 0x20, &[2, 0, 0, 0, 0, 9], &[0, 0]),
        [frame(0x1, &[], &[]), frame(0x4, &[], &[])].concat(),
    ]
}

fn range(data: &[u8]) -> bool {
    let request = pb::RangeRequest::decode(data);
    request.is_ok_and(|request| convert::range_request(request).is_ok())
}

fn ranges() -> Vec<Vec<u8>> {
    let request = pb::RangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        limit: 5,
        sort_order: 1,
        sort_target: 2,
        ..Default::default()
    };
    vec![request.encode_to_vec()]
}

fn put(data: &[u8]) -> bool {
    let request = pb::PutRequest::decode(data);
    request.is_ok_and(|request| convert::put_request(request).is_ok())
}

fn puts() -> Vec<Vec<u8>> {
    let request = pb::PutRequest {
        key: "a".into(),
        value: "1".into(),
        lease: -7,
        ..Default::default()
    };
    vec![request.encode_to_vec()]
}

fn delete(data: &[u8]) -> bool {
    let request = pb::DeleteRangeRequest::decode(data);
    request.is_ok_and(|request| convert::delete_request(request).is_ok())
}

fn deletes() -> Vec<Vec<u8>> {
    let request = pb::DeleteRangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        prev_kv: true,
    };
    vec![request.encode_to_vec()]
}

fn txn(data: &[u8]) -> bool {
    let Ok(request) = pb::TxnRequest::decode(data) else {
        return false;
    };
    let request = convert::txn_request(request);
    request.is_ok_and(|request| validate_txn(&request, MAX_OPS).is_ok())
}

fn txns() -> Vec<Vec<u8>> {
    use pb::request_op::Request;
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let put = |key: &'static str| {
        op(Request::RequestPut(pb::PutRequest {
            key: key.into(),
            ..Default::default()
        }))
    };
    let delete = op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
        key: "m".into(),
        range_end: "p".into(),
        prev_kv: false,
    }));
    let nested = |ops| {
        op(Request::RequestTxn(pb::TxnRequest {
            success: ops,
            ..Default::default()
        }))
    };
    let request = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: "a".into(),
            target: 3,
            target_union: Some(pb::compare::TargetUnion::Value("1".into())),
            ..Default::default()
        }],
        success: vec![put("a"), delete],
        failure: vec![nested(vec![nested(vec![put("b")]), put("c")])],
    };
    vec![request.encode_to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_are_refused_not_feared() {
        raft_store::fuzz::check(&targets());
    }

    #[test]
    fn every_method_has_a_row() {
        for method in crate::methods::METHODS {
            let name = format!("{}/{}", method.service, method.name);
            let mut rows = requests::PROTOBUF.iter();
            assert!(rows.any(|target| target.name == name), "{name}");
        }
    }
}
