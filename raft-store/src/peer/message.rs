//! The messages that are many: appended entries and proposals, in the encoding of the log. Rare ones are JSON.

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use crate::codec::{DecodeError, Reader, put_bytes, put_u64};
use crate::log::entry;
use crate::raft::{Payload, Proposal, TypeConfig, Vote};

type Append = AppendEntriesRequest<TypeConfig>;
type Appended = AppendEntriesResponse<TypeConfig>;

pub fn encode_append(request: &Append) -> Bytes {
    let mut out = Vec::new();
    put_vote(&mut out, &request.vote);
    entry::put_optional_id(&mut out, request.prev_log_id.as_ref());
    entry::put_optional_id(&mut out, request.leader_commit.as_ref());
    put_u64(&mut out, request.entries.len() as u64);
    let mut one = Vec::new();
    for item in &request.entries {
        one.clear();
        if let Payload::Normal(proposal) = &item.payload {
            // The other members get the same bytes.
            proposal.encoded();
        }
        entry::encode(&mut one, item);
        put_bytes(&mut out, &one);
    }
    out.into()
}

pub fn decode_append(raw: Bytes) -> Result<Append, DecodeError> {
    let mut reader = Reader::new(raw);
    let vote = read_vote(&mut reader)?;
    let prev_log_id = entry::read_optional_id(&mut reader)?;
    let leader_commit = entry::read_optional_id(&mut reader)?;
    let count = reader.count()?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(entry::decode(Reader::new(reader.bytes()?))?);
    }
    Ok(Append {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

pub fn encode_append_answer(answer: &Appended) -> Bytes {
    let mut out = Vec::new();
    match answer {
        Appended::Success => out.push(0),
        Appended::PartialSuccess(id) => {
            out.push(1);
            entry::put_optional_id(&mut out, id.as_ref());
        }
        Appended::Conflict => out.push(2),
        Appended::HigherVote(vote) => {
            out.push(3);
            put_vote(&mut out, vote);
        }
    }
    out.into()
}

pub fn decode_append_answer(raw: Bytes) -> Result<Appended, DecodeError> {
    let mut reader = Reader::new(raw);
    Ok(match reader.u8()? {
        0 => Appended::Success,
        1 => Appended::PartialSuccess(entry::read_optional_id(&mut reader)?),
        2 => Appended::Conflict,
        3 => Appended::HigherVote(read_vote(&mut reader)?),
        _ => return Err(DecodeError("unknown answer to an append")),
    })
}

/// A proposal for the leader of `term` and for no other.
pub fn encode_proposal(term: u64, proposal: &Proposal) -> Bytes {
    let mut out = Vec::new();
    put_u64(&mut out, term);
    out.extend_from_slice(proposal.encoded());
    out.into()
}

pub fn decode_proposal(raw: Bytes) -> Result<(u64, Proposal), DecodeError> {
    let mut reader = Reader::new(raw);
    let term = reader.u64()?;
    Ok((term, Proposal::decode(reader.rest())?))
}

fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    put_u64(out, vote.leader_id.term);
    put_u64(out, vote.leader_id.voted_for);
    out.push(u8::from(vote.committed));
}

fn read_vote(reader: &mut Reader) -> Result<Vote, DecodeError> {
    let mut vote = Vote::new(reader.u64()?, reader.u64()?);
    vote.committed = reader.bool()?;
    Ok(vote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Batch, Command, Origin};
    use crate::raft::{Entry, log_id};

    #[test]
    fn messages_round_trip_and_garbage_is_an_error() {
        let batch = Batch {
            origin: Origin {
                member: 1,
                boot: 2,
                sequence: 3,
            },
            commands: vec![Command::LeaseRevoke { id: 4 }],
        };
        let request = Append {
            vote: Vote::new_committed(5, 6),
            prev_log_id: Some(log_id(4, 9)),
            leader_commit: None,
            entries: vec![
                Entry {
                    log_id: log_id(5, 10),
                    payload: Payload::Blank,
                },
                Entry {
                    log_id: log_id(5, 11),
                    payload: Payload::Normal(batch.clone().into()),
                },
            ],
        };
        let bytes = encode_append(&request);
        let back = decode_append(bytes.clone()).unwrap();
        assert_eq!(
            (back.vote, back.prev_log_id, back.entries),
            (request.vote, request.prev_log_id, request.entries)
        );
        for len in 0..bytes.len() {
            assert!(decode_append(bytes.slice(..len)).is_err(), "{len}");
        }
        let answer = Appended::HigherVote(Vote::new(7, 8));
        assert_eq!(
            decode_append_answer(encode_append_answer(&answer)).unwrap(),
            answer
        );
        let (term, proposal) = decode_proposal(encode_proposal(12, &batch.clone().into())).unwrap();
        assert_eq!((term, proposal.into_batch()), (12, batch));
    }
}
