//! One record of the log: header, checksum, payload, padded to eight bytes.
//!
//! The checksum is seeded with the segment's number, so that what an earlier life left in a reused file never passes
//! as a record. `synced` says how much of the segment was durable when the record was written: a valid record that
//! knows of a damaged place as durable proves corruption, where otherwise the damage is a torn tail.

use bytes::Bytes;

use super::entry;
use crate::codec::{DecodeError, Reader, put_u64};
use crate::command::Batch;
use crate::raft::{Entry, LogId, Payload, Vote};

pub const HEADER: usize = 24;
const ALIGN: usize = 8;
/// Also the format version of the framing.
const MAGIC: u32 = 0x3152_4c58;
const FORMAT: u8 = 1;

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// First in a segment.
    Opened {
        member: u64,
    },
    Entry(Entry),
    Vote(Vote),
    Committed(Option<LogId>),
    /// Entries after this one are void.
    TruncatedAfter(Option<LogId>),
    /// Entries up to this one are gone.
    Purged(LogId),
    /// Last in a segment: the log goes on in the next one.
    Closed,
}

impl Record {
    /// Appends the record with an unsealed header; returns its padded length.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start + HEADER, 0);
        let kind = match self {
            Record::Opened { member } => {
                put_u64(out, *member);
                1
            }
            Record::Entry(entry) => {
                entry::encode(out, entry);
                2
            }
            Record::Vote(vote) => {
                put_u64(out, vote.leader_id.term);
                put_u64(out, vote.leader_id.voted_for);
                out.push(u8::from(vote.committed));
                3
            }
            Record::Committed(id) => {
                entry::put_optional_id(out, id.as_ref());
                4
            }
            Record::TruncatedAfter(id) => {
                entry::put_optional_id(out, id.as_ref());
                5
            }
            Record::Purged(id) => {
                entry::put_optional_id(out, Some(id));
                6
            }
            Record::Closed => 7,
        };
        let payload = out.len() - start - HEADER;
        let header = &mut out[start..start + HEADER];
        header[..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[8..12].copy_from_slice(
            &u32::try_from(payload)
                .expect("records are below 4 GiB")
                .to_le_bytes(),
        );
        header[12] = kind;
        header[13] = FORMAT;
        out.resize(start + padded(payload), 0);
        out.len() - start
    }

    fn decode(kind: u8, format: u8, payload: Bytes) -> Result<Self, DecodeError> {
        if format != FORMAT {
            return Err(DecodeError("unknown record format"));
        }
        let mut reader = Reader::new(payload);
        Ok(match kind {
            1 => Record::Opened {
                member: reader.u64()?,
            },
            2 => Record::Entry(entry::decode(reader)?),
            3 => {
                let mut vote = Vote::new(reader.u64()?, reader.u64()?);
                vote.committed = reader.bool()?;
                Record::Vote(vote)
            }
            4 => Record::Committed(entry::read_optional_id(&mut reader)?),
            5 => Record::TruncatedAfter(entry::read_optional_id(&mut reader)?),
            6 => Record::Purged(
                entry::read_optional_id(&mut reader)?.ok_or(DecodeError("purged up to nothing"))?,
            ),
            7 => Record::Closed,
            _ => return Err(DecodeError("unknown kind of record")),
        })
    }
}

fn padded(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

/// Completes the header of the record at the start of `record`; returns the record's padded length.
pub fn seal(record: &mut [u8], segment: u64, synced: u64) -> usize {
    let payload = u32::from_le_bytes(record[8..12].try_into().expect("four bytes")) as usize;
    record[16..24].copy_from_slice(&synced.to_le_bytes());
    let sum = checksum(&record[8..HEADER + payload], segment);
    record[4..8].copy_from_slice(&sum.to_le_bytes());
    padded(payload)
}

fn checksum(bytes: &[u8], segment: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), bytes)
}

/// A record whose checksum holds, not yet decoded.
#[derive(Clone, Debug)]
pub struct Framed {
    kind: u8,
    format: u8,
    pub synced: u64,
    payload: Bytes,
    /// With header and padding.
    pub len: usize,
}

impl Framed {
    /// The record at `offset`, if a valid one begins there.
    pub fn at(segment_bytes: &Bytes, offset: usize, segment: u64) -> Option<Self> {
        let header = segment_bytes.get(offset..offset + HEADER)?;
        let word =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        if word(0) != MAGIC {
            return None;
        }
        let payload = word(8) as usize;
        let end = (offset + HEADER).checked_add(payload)?;
        let summed = segment_bytes.get(offset + 8..end)?;
        if checksum(summed, segment) != word(4) {
            return None;
        }
        Some(Self {
            kind: header[12],
            format: header[13],
            synced: u64::from_le_bytes(header[16..24].try_into().expect("eight bytes")),
            payload: segment_bytes.slice(offset + HEADER..end),
            len: padded(payload),
        })
    }

    pub fn decode(self) -> Result<Record, DecodeError> {
        Record::decode(self.kind, self.format, self.payload)
    }
}

/// The first valid record at or after `offset`.
pub fn find_valid(segment_bytes: &Bytes, offset: usize, segment: u64) -> Vec<Framed> {
    let magic = MAGIC.to_le_bytes();
    let mut found = Vec::new();
    let mut at = offset.next_multiple_of(ALIGN);
    while let Some(word) = segment_bytes.get(at..at + 4) {
        let framed = if word == magic {
            Framed::at(segment_bytes, at, segment)
        } else {
            None
        };
        at += framed.as_ref().map_or(ALIGN, |framed| framed.len);
        found.extend(framed);
    }
    found
}

/// Whether a record may begin with these bytes.
pub fn is_record(magic: [u8; 4]) -> bool {
    magic == MAGIC.to_le_bytes()
}

/// Decodes foreign bytes as the payload of each kind of record, and as a framed record; whether they were any.
pub fn decode_foreign(data: &Bytes) -> bool {
    let mut taken = false;
    for kind in 0..9 {
        if let Ok(record) = Record::decode(kind, FORMAT, data.clone()) {
            let mut out = Vec::new();
            record.encode(&mut out);
            seal(&mut out, 1, 0);
            let framed = Framed::at(&out.into(), 0, 1).expect("it was just sealed");
            assert_eq!(framed.decode().as_ref(), Ok(&record));
            // That a segment is closed takes no bytes.
            taken |= record != Record::Closed;
        }
    }
    if let Some(framed) = Framed::at(data, 0, 1) {
        taken |= framed.decode().is_ok();
    }
    taken
}

/// The payload of an entry that carries `batch`.
pub fn sample_records(batch: &Batch) -> Vec<u8> {
    let entry = Entry {
        log_id: crate::raft::log_id(3, 5),
        payload: Payload::Normal(batch.clone().into()),
    };
    let mut out = Vec::new();
    Record::Entry(entry).encode(&mut out);
    out.split_off(HEADER)
}
