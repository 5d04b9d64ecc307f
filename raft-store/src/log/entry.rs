//! An entry's bytes, in the log and on the way to other members: the same in both.

use crate::codec::{DecodeError, Reader, put_u64};
use crate::raft::{Entry, LogId, Membership, Payload, Proposal};

pub fn put_optional_id(out: &mut Vec<u8>, id: Option<&LogId>) {
    match id {
        None => out.push(0),
        Some(id) => {
            out.push(1);
            put_u64(out, id.leader_id.term);
            put_u64(out, id.index);
        }
    }
}

pub fn read_optional_id(reader: &mut Reader) -> Result<Option<LogId>, DecodeError> {
    Ok(if reader.bool()? {
        Some(read_id(reader)?)
    } else {
        None
    })
}

fn read_id(reader: &mut Reader) -> Result<LogId, DecodeError> {
    Ok(crate::raft::log_id(reader.u64()?, reader.u64()?))
}

pub fn encode(out: &mut Vec<u8>, entry: &Entry) {
    put_u64(out, entry.log_id.leader_id.term);
    put_u64(out, entry.log_id.index);
    match &entry.payload {
        Payload::Blank => out.push(0),
        Payload::Normal(proposal) => {
            out.push(1);
            proposal.encode_to(out);
        }
        Payload::Membership(membership) => {
            out.push(2);
            serde_json::to_writer(out, membership).expect("a membership is JSON");
        }
    }
}

pub fn decode(mut reader: Reader) -> Result<Entry, DecodeError> {
    let log_id = read_id(&mut reader)?;
    let payload = match reader.u8()? {
        0 => Payload::Blank,
        1 => Payload::Normal(Proposal::decode(reader.rest())?),
        2 => {
            let membership: Membership = serde_json::from_slice(&reader.rest())
                .map_err(|_| DecodeError("not a membership"))?;
            Payload::Membership(membership)
        }
        _ => return Err(DecodeError("unknown kind of entry")),
    };
    Ok(Entry { log_id, payload })
}
