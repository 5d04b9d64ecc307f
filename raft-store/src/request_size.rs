//! How large a write request is as etcd counts it: the length of the message that etcd would put into its log for it.
//!
//! To the byte, because `--max-request-bytes` decides by it what a client is refused. Must not know the limit.

use crate::command::Command;
use crate::*;

/// etcd's own part of that message: a header with the request's number, which takes ten bytes where it is large.
const HEADER: usize = 2 + 1 + 1 + 10;

/// Bytes of a request. Those that cannot be large count nothing.
pub fn request_size(command: &Command) -> usize {
    let request = match command {
        Command::Put(request) => put(request),
        Command::DeleteRange(request) => delete_range(request),
        Command::Txn(request) => txn(request),
        Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::Alarm { .. } => return 0,
    };
    HEADER + delimited(request)
}

/// A number in protobuf's variable length.
fn varint(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// A field of so many bytes, with its tag and length.
fn delimited(bytes: usize) -> usize {
    1 + varint(bytes as u64) + bytes
}

fn bytes(field: &[u8]) -> usize {
    match field.len() {
        0 => 0,
        len => delimited(len),
    }
}

fn number(field: i64) -> usize {
    match field {
        0 => 0,
        // As etcd's, negative ones take ten bytes.
        number => 1 + varint(number as u64),
    }
}

fn flag(field: bool) -> usize {
    2 * usize::from(field)
}

fn range_of_keys(range: &KeyRange, tag_of_end: usize) -> usize {
    let end = match &range.end {
        RangeEnd::Single => 0,
        RangeEnd::Before(end) => bytes(end),
        RangeEnd::Unbounded => bytes(b"\0"),
    };
    let longer_tag = if end > 0 { tag_of_end - 1 } else { 0 };
    bytes(&range.key) + end + longer_tag
}

fn put(request: &PutRequest) -> usize {
    bytes(&request.key)
        + bytes(&request.value)
        + number(request.lease)
        + flag(request.prev_kv)
        + flag(request.ignore_value)
        + flag(request.ignore_lease)
}

fn delete_range(request: &DeleteRangeRequest) -> usize {
    range_of_keys(&request.range, 1) + flag(request.prev_kv)
}

fn range(request: &RangeRequest) -> usize {
    let numbers = [
        request.limit,
        request.revision,
        request.sort_order as i64,
        request.sort_target as i64,
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let flags = [request.serializable, request.keys_only, request.count_only];
    range_of_keys(&request.range, 1)
        + numbers.into_iter().map(number).sum::<usize>()
        + flags.into_iter().map(flag).sum::<usize>()
}

fn compare(compare: &Compare) -> usize {
    // Which of these it is makes a field of its own; that is there even if it is zero.
    let (kind, target) = match &compare.target {
        CompareTarget::Version(value) => (0, 1 + varint(*value as u64)),
        CompareTarget::CreateRevision(value) => (1, 1 + varint(*value as u64)),
        CompareTarget::ModRevision(value) => (2, 1 + varint(*value as u64)),
        CompareTarget::Value(value) => (3, delimited(value.len())),
        CompareTarget::Lease(value) => (4, 1 + varint(*value as u64)),
    };
    // The number of the range's end takes two bytes.
    range_of_keys(&compare.range, 2) + number(compare.op as i64) + number(kind) + target
}

fn operation(op: &RequestOp) -> usize {
    delimited(match op {
        RequestOp::Range(request) => range(request),
        RequestOp::Put(request) => put(request),
        RequestOp::DeleteRange(request) => delete_range(request),
        RequestOp::Txn(request) => txn(request),
    })
}

fn txn(request: &TxnRequest) -> usize {
    let operations = request.success.iter().chain(&request.failure);
    let compares = request.compare.iter().map(compare);
    compares
        .chain(operations.map(operation))
        .map(delimited)
        .sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;
    use xebec_proto::etcdserverpb as pb;

    use super::*;

    /// The entry holds the request in a field of its own.
    fn check(command: &Command, message: &impl Message) {
        let expect = HEADER + delimited(message.encoded_len());
        assert_eq!(request_size(command), expect, "{command:?}");
    }

    fn puts(value: usize) -> (PutRequest, pb::PutRequest) {
        let (key, value) = (Bytes::from_static(b"key"), Bytes::from(vec![1; value]));
        let ours = PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease: -1,
            prev_kv: true,
            ..Default::default()
        };
        let theirs = pb::PutRequest {
            key,
            value,
            lease: -1,
            prev_kv: true,
            ..Default::default()
        };
        (ours, theirs)
    }

    fn ranges() -> (RangeRequest, pb::RangeRequest) {
        let ours = RangeRequest {
            range: KeyRange::from_etcd("k".into(), "\0".into()),
            limit: 300,
            revision: i64::MAX,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Value,
            serializable: true,
            ..Default::default()
        };
        let theirs = pb::RangeRequest {
            key: "k".into(),
            range_end: "\0".into(),
            limit: 300,
            revision: i64::MAX,
            sort_order: 2,
            sort_target: 4,
            serializable: true,
            ..Default::default()
        };
        (ours, theirs)
    }

    fn op(request: pb::request_op::Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn compares() -> (Vec<Compare>, Vec<pb::Compare>) {
        use pb::compare::TargetUnion;
        let ours = |end: &'static str, op, target| Compare {
            range: KeyRange::from_etcd("key".into(), end.into()),
            op,
            target,
        };
        let theirs = |end: &'static str, result, target, union| pb::Compare {
            result,
            target,
            key: "key".into(),
            range_end: end.into(),
            target_union: Some(union),
        };
        let value = Bytes::from(vec![7; 200]);
        (
            vec![
                ours("", CompareOp::Equal, CompareTarget::Version(0)),
                ours(
                    "z",
                    CompareOp::NotEqual,
                    CompareTarget::Value(value.clone()),
                ),
                ours("", CompareOp::Less, CompareTarget::Lease(1 << 40)),
            ],
            vec![
                theirs("", 0, 0, TargetUnion::Version(0)),
                theirs("z", 3, 3, TargetUnion::Value(value)),
                theirs("", 2, 4, TargetUnion::Lease(1 << 40)),
            ],
        )
    }

    #[test]
    fn requests_count_what_their_messages_take() {
        for value in [0, 1, 100, 130, 20_000, 3_000_000] {
            let (ours, theirs) = puts(value);
            check(&Command::Put(ours), &theirs);
        }
        let ours = DeleteRangeRequest {
            range: KeyRange::span("a", "b"),
            prev_kv: true,
        };
        let theirs = pb::DeleteRangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            prev_kv: true,
        };
        check(&Command::DeleteRange(ours), &theirs);
        check(
            &Command::DeleteRange(DeleteRangeRequest::default()),
            &pb::DeleteRangeRequest::default(),
        );
    }

    #[test]
    fn transactions_count_with_all_that_is_in_them() {
        use pb::request_op::Request;
        let (put, their_put) = puts(500);
        let (range, their_range) = ranges();
        let (compare, their_compare) = compares();
        let nested = TxnRequest {
            success: vec![RequestOp::Put(put.clone())],
            ..Default::default()
        };
        let their_nested = pb::TxnRequest {
            success: vec![op(Request::RequestPut(their_put.clone()))],
            ..Default::default()
        };
        let ours = TxnRequest {
            compare,
            success: vec![RequestOp::Put(put), RequestOp::Range(range)],
            failure: vec![RequestOp::Txn(nested)],
            fence: None,
        };
        let theirs = pb::TxnRequest {
            compare: their_compare,
            success: vec![
                op(Request::RequestPut(their_put)),
                op(Request::RequestRange(their_range)),
            ],
            failure: vec![op(Request::RequestTxn(their_nested))],
        };
        check(&Command::Txn(ours), &theirs);
    }
}
