//! What is replicated: commands, the batches of them that make a log entry, and their answers.
//!
//! The encoding is versioned; a command of a newer version than this program knows is an error, never skipped.

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, put_bytes, put_i64, put_u64};
use crate::types::FenceKind;
use crate::*;

/// A change of the replicated state. Requests carry no time and no randomness: those were settled when proposing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact {
        revision: i64,
    },
    LeaseGrant {
        id: i64,
        ttl: i64,
    },
    LeaseRevoke {
        id: i64,
    },
    Alarm {
        alarm: Alarm,
        on: bool,
        /// The member turns it on and off by itself.
        automatic: bool,
    },
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    Alarm(AlarmResponse),
}

/// Who proposed a batch: the member, the run of its process, and the batch's number within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub member: u64,
    pub boot: u64,
    pub sequence: u64,
}

/// Commands that share one log entry; each is applied by itself, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub origin: Origin,
    pub commands: Vec<Command>,
}

const FORMAT: u8 = 1;

impl Batch {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.extend_from_slice(&self.origin.member.to_le_bytes());
        out.extend_from_slice(&self.origin.boot.to_le_bytes());
        put_u64(out, self.origin.sequence);
        put_u64(out, self.commands.len() as u64);
        for command in &self.commands {
            encode_command(out, command);
        }
    }

    pub fn decode(raw: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(raw);
        if reader.u8()? != FORMAT {
            return Err(DecodeError("unknown command batch format"));
        }
        let origin = Origin {
            member: fixed_u64(&mut reader)?,
            boot: fixed_u64(&mut reader)?,
            sequence: reader.u64()?,
        };
        let count = reader.count()?;
        let mut commands = Vec::with_capacity(count);
        for _ in 0..count {
            commands.push(decode_command(&mut reader)?);
        }
        if !reader.is_empty() {
            return Err(DecodeError("bytes after the last command"));
        }
        Ok(Self { origin, commands })
    }
}

fn fixed_u64(reader: &mut Reader) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..64).step_by(8) {
        value |= u64::from(reader.u8()?) << shift;
    }
    Ok(value)
}

/// A rough size of a command in the log, bytes.
pub fn size_hint(command: &Command) -> usize {
    const OVERHEAD: usize = 16;
    fn range(range: &KeyRange) -> usize {
        let end = match &range.end {
            RangeEnd::Before(end) => end.len(),
            RangeEnd::Single | RangeEnd::Unbounded => 0,
        };
        range.key.len() + end
    }
    fn txn(request: &TxnRequest) -> usize {
        let compares = request.compare.iter().map(|compare| {
            let value = if let CompareTarget::Value(value) = &compare.target {
                value.len()
            } else {
                0
            };
            OVERHEAD + range(&compare.range) + value
        });
        let ops = request
            .success
            .iter()
            .chain(&request.failure)
            .map(|op| match op {
                RequestOp::Range(request) => OVERHEAD + range(&request.range),
                RequestOp::Put(request) => OVERHEAD + request.key.len() + request.value.len(),
                RequestOp::DeleteRange(request) => OVERHEAD + range(&request.range),
                RequestOp::Txn(request) => OVERHEAD + txn(request),
            });
        compares.sum::<usize>() + ops.sum::<usize>()
    }
    match command {
        Command::Put(request) => OVERHEAD + request.key.len() + request.value.len(),
        Command::DeleteRange(request) => OVERHEAD + range(&request.range),
        Command::Txn(request) => OVERHEAD + txn(request),
        Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::Alarm { .. } => OVERHEAD,
    }
}

fn encode_command(out: &mut Vec<u8>, command: &Command) {
    match command {
        Command::Put(request) => {
            out.push(1);
            encode_put(out, request);
        }
        Command::DeleteRange(request) => {
            out.push(2);
            encode_delete(out, request);
        }
        Command::Txn(request) => {
            out.push(3);
            encode_txn(out, request);
        }
        Command::Compact { revision } => {
            out.push(4);
            put_i64(out, *revision);
        }
        Command::LeaseGrant { id, ttl } => {
            out.push(5);
            put_i64(out, *id);
            put_i64(out, *ttl);
        }
        Command::LeaseRevoke { id } => {
            out.push(6);
            put_i64(out, *id);
        }
        Command::Alarm {
            alarm,
            on,
            automatic,
        } => {
            out.push(7);
            out.push(alarm.kind as u8);
            put_u64(out, alarm.member_id);
            out.push(u8::from(*on));
            out.push(u8::from(*automatic));
        }
    }
}

fn decode_command(reader: &mut Reader) -> Result<Command, DecodeError> {
    Ok(match reader.u8()? {
        1 => Command::Put(decode_put(reader)?),
        2 => Command::DeleteRange(decode_delete(reader)?),
        3 => Command::Txn(decode_txn(reader, 0)?),
        4 => Command::Compact {
            revision: reader.i64()?,
        },
        5 => Command::LeaseGrant {
            id: reader.i64()?,
            ttl: reader.i64()?,
        },
        6 => Command::LeaseRevoke { id: reader.i64()? },
        7 => Command::Alarm {
            alarm: Alarm {
                kind: AlarmKind::from_number(reader.u8()?)
                    .ok_or(DecodeError("unknown kind of alarm"))?,
                member_id: reader.u64()?,
            },
            on: reader.bool()?,
            automatic: reader.bool()?,
        },
        _ => return Err(DecodeError("unknown command")),
    })
}

fn encode_range_of_keys(out: &mut Vec<u8>, range: &KeyRange) {
    put_bytes(out, &range.key);
    match &range.end {
        RangeEnd::Single => out.push(0),
        RangeEnd::Before(end) => {
            out.push(1);
            put_bytes(out, end);
        }
        RangeEnd::Unbounded => out.push(2),
    }
}

fn decode_range_of_keys(reader: &mut Reader) -> Result<KeyRange, DecodeError> {
    let key = reader.bytes()?;
    let end = match reader.u8()? {
        0 => RangeEnd::Single,
        1 => RangeEnd::Before(reader.bytes()?),
        2 => RangeEnd::Unbounded,
        _ => return Err(DecodeError("unknown end of range")),
    };
    Ok(KeyRange { key, end })
}

fn encode_put(out: &mut Vec<u8>, request: &PutRequest) {
    out.push(
        u8::from(request.prev_kv)
            | u8::from(request.ignore_value) << 1
            | u8::from(request.ignore_lease) << 2,
    );
    put_i64(out, request.lease);
    put_bytes(out, &request.key);
    put_bytes(out, &request.value);
}

fn decode_put(reader: &mut Reader) -> Result<PutRequest, DecodeError> {
    let flags = reader.u8()?;
    if flags > 7 {
        return Err(DecodeError("unknown put flags"));
    }
    Ok(PutRequest {
        prev_kv: flags & 1 != 0,
        ignore_value: flags & 2 != 0,
        ignore_lease: flags & 4 != 0,
        lease: reader.i64()?,
        key: reader.bytes()?,
        value: reader.bytes()?,
    })
}

fn encode_delete(out: &mut Vec<u8>, request: &DeleteRangeRequest) {
    out.push(u8::from(request.prev_kv));
    encode_range_of_keys(out, &request.range);
}

fn decode_delete(reader: &mut Reader) -> Result<DeleteRangeRequest, DecodeError> {
    Ok(DeleteRangeRequest {
        prev_kv: reader.bool()?,
        range: decode_range_of_keys(reader)?,
    })
}

fn encode_range(out: &mut Vec<u8>, request: &RangeRequest) {
    encode_range_of_keys(out, &request.range);
    out.push(request.sort_target as u8);
    out.push(request.sort_order as u8);
    out.push(
        u8::from(request.serializable)
            | u8::from(request.keys_only) << 1
            | u8::from(request.count_only) << 2,
    );
    for number in [
        request.limit,
        request.revision,
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ] {
        put_i64(out, number);
    }
}

fn decode_range(reader: &mut Reader) -> Result<RangeRequest, DecodeError> {
    let range = decode_range_of_keys(reader)?;
    let sort_target = match reader.u8()? {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::CreateRevision,
        3 => SortTarget::ModRevision,
        4 => SortTarget::Value,
        _ => return Err(DecodeError("unknown sort target")),
    };
    let sort_order = match reader.u8()? {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        _ => return Err(DecodeError("unknown sort order")),
    };
    let flags = reader.u8()?;
    Ok(RangeRequest {
        range,
        sort_target,
        sort_order,
        serializable: flags & 1 != 0,
        keys_only: flags & 2 != 0,
        count_only: flags & 4 != 0,
        limit: reader.i64()?,
        revision: reader.i64()?,
        min_mod_revision: reader.i64()?,
        max_mod_revision: reader.i64()?,
        min_create_revision: reader.i64()?,
        max_create_revision: reader.i64()?,
    })
}

fn encode_compare(out: &mut Vec<u8>, compare: &Compare) {
    encode_range_of_keys(out, &compare.range);
    out.push(compare.op as u8);
    match &compare.target {
        CompareTarget::Version(value) => encode_number_target(out, 0, *value),
        CompareTarget::CreateRevision(value) => encode_number_target(out, 1, *value),
        CompareTarget::ModRevision(value) => encode_number_target(out, 2, *value),
        CompareTarget::Lease(value) => encode_number_target(out, 3, *value),
        CompareTarget::Value(value) => {
            out.push(4);
            put_bytes(out, value);
        }
    }
}

fn encode_number_target(out: &mut Vec<u8>, tag: u8, value: i64) {
    out.push(tag);
    put_i64(out, value);
}

fn decode_compare(reader: &mut Reader) -> Result<Compare, DecodeError> {
    let range = decode_range_of_keys(reader)?;
    let op = match reader.u8()? {
        0 => CompareOp::Equal,
        1 => CompareOp::Greater,
        2 => CompareOp::Less,
        3 => CompareOp::NotEqual,
        _ => return Err(DecodeError("unknown comparison")),
    };
    let target = match reader.u8()? {
        0 => CompareTarget::Version(reader.i64()?),
        1 => CompareTarget::CreateRevision(reader.i64()?),
        2 => CompareTarget::ModRevision(reader.i64()?),
        3 => CompareTarget::Lease(reader.i64()?),
        4 => CompareTarget::Value(reader.bytes()?),
        _ => return Err(DecodeError("unknown comparison target")),
    };
    Ok(Compare { range, op, target })
}

fn encode_txn(out: &mut Vec<u8>, request: &TxnRequest) {
    match request.fence.as_ref().map(|fence| &fence.0) {
        None => out.push(0),
        Some(FenceKind::Term(term)) => {
            out.push(1);
            put_u64(out, *term);
        }
        Some(FenceKind::Key {
            key,
            create_revision,
        }) => {
            out.push(2);
            put_bytes(out, key);
            put_i64(out, *create_revision);
        }
    }
    put_u64(out, request.compare.len() as u64);
    request
        .compare
        .iter()
        .for_each(|compare| encode_compare(out, compare));
    for branch in [&request.success, &request.failure] {
        put_u64(out, branch.len() as u64);
        branch.iter().for_each(|op| encode_op(out, op));
    }
}

fn encode_op(out: &mut Vec<u8>, op: &RequestOp) {
    match op {
        RequestOp::Range(request) => {
            out.push(1);
            encode_range(out, request);
        }
        RequestOp::Put(request) => {
            out.push(2);
            encode_put(out, request);
        }
        RequestOp::DeleteRange(request) => {
            out.push(3);
            encode_delete(out, request);
        }
        RequestOp::Txn(request) => {
            out.push(4);
            encode_txn(out, request);
        }
    }
}

fn decode_txn(reader: &mut Reader, depth: usize) -> Result<TxnRequest, DecodeError> {
    if depth > limits::MAX_TXN_OPS {
        return Err(DecodeError("transactions nested too deeply"));
    }
    let fence = match reader.u8()? {
        0 => None,
        1 => Some(Fence::term(reader.u64()?)),
        2 => Some(Fence::key(reader.bytes()?, reader.i64()?)),
        _ => return Err(DecodeError("unknown fence")),
    };
    let compare = (0..reader.count()?)
        .map(|_| decode_compare(reader))
        .collect::<Result<_, _>>()?;
    let mut branch = || -> Result<Vec<RequestOp>, DecodeError> {
        (0..reader.count()?)
            .map(|_| decode_op(reader, depth))
            .collect()
    };
    let (success, failure) = (branch()?, branch()?);
    Ok(TxnRequest {
        compare,
        success,
        failure,
        fence,
    })
}

fn decode_op(reader: &mut Reader, depth: usize) -> Result<RequestOp, DecodeError> {
    Ok(match reader.u8()? {
        1 => RequestOp::Range(decode_range(reader)?),
        2 => RequestOp::Put(decode_put(reader)?),
        3 => RequestOp::DeleteRange(decode_delete(reader)?),
        4 => RequestOp::Txn(decode_txn(reader, depth + 1)?),
        _ => return Err(DecodeError("unknown operation")),
    })
}
