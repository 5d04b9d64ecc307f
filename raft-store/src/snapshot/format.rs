//! How a snapshot is written: a magic word, blocks each with its checksum, and the SHA-256 of all before it.
//!
//! The end block says how many rows and bytes there were, so that a file cut at a block's end is noticed; padding
//! makes the length 32 more than a multiple of 512, by which etcd's own client knows that a checksum is there.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, put_bytes, put_u64};
use crate::mvcc::engine::Family;
use crate::raft::StoredMembership;

/// The first bytes of every snapshot.
pub const MAGIC: [u8; 8] = *b"XBCSNAP\n";
/// The format this program writes and reads.
pub const FORMAT: u32 = 1;
/// Kind, length of the payload, checksum of both and of the payload: four bytes each, little-endian.
pub const BLOCK_HEADER: usize = 12;
/// Bytes of the checksum at the very end.
pub const DIGEST: usize = 32;
/// etcd's client expects the length to be [`DIGEST`] more than a multiple of this.
pub const SECTOR: u64 = 512;

/// What a snapshot is of; its first block, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    pub cluster_id: u64,
    /// The member that made it.
    pub member_id: u64,
    /// Term and index of the last entry that the state holds.
    pub term: u64,
    pub index: u64,
    pub membership: StoredMembership,
    pub revision: i64,
    pub compacted: i64,
}

/// What a whole snapshot held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub rows: u64,
    /// Of keys and values.
    pub bytes: u64,
}

/// A block's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    Header(Box<Header>),
    /// Rows of one family, ascending.
    Rows(Family, Vec<(Bytes, Bytes)>),
    Padding,
    End(Totals),
}

const HEADER: u32 = 1;
const ROWS: u32 = 2;
const PADDING: u32 = 3;
/// Ends the blocks.
pub const END: u32 = 4;

/// Appends a block with its header.
fn put_block(out: &mut Vec<u8>, kind: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("blocks are below 4 GiB");
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(kind, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

pub fn checksum(kind: u32, payload: &[u8]) -> u32 {
    let len = payload.len() as u32;
    let seed = crc32c::crc32c_append(crc32c::crc32c(&kind.to_le_bytes()), &len.to_le_bytes());
    crc32c::crc32c_append(seed, payload)
}

pub fn put_header(out: &mut Vec<u8>, header: &Header) {
    let json = serde_json::to_vec(header).expect("a header is JSON");
    put_block(out, HEADER, &json);
}

/// Rows of one family, gathered for a block.
#[derive(Debug)]
pub struct Rows {
    payload: Vec<u8>,
    count: u64,
}

impl Rows {
    pub fn new(family: Family) -> Self {
        Self {
            payload: vec![family as u8],
            count: 0,
        }
    }

    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        put_bytes(&mut self.payload, key);
        put_bytes(&mut self.payload, value);
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Appends the block and empties the rows.
    pub fn put(&mut self, out: &mut Vec<u8>) {
        put_block(out, ROWS, &self.payload);
        self.payload.truncate(1);
        self.count = 0;
    }
}

/// Appends padding and the end block behind `written` bytes; then only the checksum follows.
pub fn put_end(out: &mut Vec<u8>, written: u64, totals: Totals) {
    let mut payload = Vec::new();
    put_u64(&mut payload, totals.rows);
    put_u64(&mut payload, totals.bytes);
    let fixed = written + (2 * BLOCK_HEADER + payload.len()) as u64;
    let missing = fixed.next_multiple_of(SECTOR) - fixed;
    put_block(out, PADDING, &vec![0; missing as usize]);
    put_block(out, END, &payload);
}

/// The header of a block: kind, length of the payload, checksum.
pub fn parse_block_header(raw: &[u8; BLOCK_HEADER]) -> (u32, u32, u32) {
    let word = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().expect("four bytes"));
    (word(0), word(4), word(8))
}

/// Checks and decodes a block's payload.
pub fn decode_block(kind: u32, sum: u32, payload: Bytes) -> Result<Block, DecodeError> {
    if checksum(kind, &payload) != sum {
        return Err(DecodeError("bad checksum"));
    }
    match kind {
        HEADER => {
            let header = serde_json::from_slice(&payload);
            Ok(Block::Header(
                header.map_err(|_| DecodeError("not a header"))?,
            ))
        }
        ROWS => decode_rows(payload),
        PADDING => Ok(Block::Padding),
        END => {
            let mut reader = Reader::new(payload);
            let totals = Totals {
                rows: reader.u64()?,
                bytes: reader.u64()?,
            };
            Ok(Block::End(totals))
        }
        _ => Err(DecodeError("unknown kind of block")),
    }
}

fn decode_rows(payload: Bytes) -> Result<Block, DecodeError> {
    let mut reader = Reader::new(payload);
    let family = usize::from(reader.u8()?);
    let family = *Family::ALL
        .get(family)
        .ok_or(DecodeError("unknown family"))?;
    let mut rows = Vec::new();
    while !reader.is_empty() {
        rows.push((reader.bytes()?, reader.bytes()?));
    }
    Ok(Block::Rows(family, rows))
}

/// A block as foreign bytes might have it: the first one is its kind, the checksum is right. Whether it was taken.
pub fn decode_foreign_block(data: &Bytes) -> bool {
    let Some(kind) = data.first() else {
        return false;
    };
    let (kind, payload) = (u32::from(*kind % 6), data.slice(1..));
    decode_block(kind, checksum(kind, &payload), payload).is_ok()
}

/// The payload of a block of rows behind its kind.
pub fn encode_rows(family: Family, rows: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Rows::new(family);
    rows.iter().for_each(|(key, value)| block.push(key, value));
    let mut out = vec![ROWS as u8];
    out.extend_from_slice(&block.payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(kind in 0..6u32, raw: Vec<u8>) {
            let sum = checksum(kind, &raw);
            let _ = decode_block(kind, sum, raw.into());
        }

        #[test]
        fn rows_round_trip(rows: Vec<(Vec<u8>, Vec<u8>)>, flipped: usize) {
            let mut block = Rows::new(Family::Rev);
            rows.iter().for_each(|(key, value)| block.push(key, value));
            let mut out = Vec::new();
            block.put(&mut out);
            let (kind, len, sum) = parse_block_header(out[..BLOCK_HEADER].try_into().unwrap());
            prop_assert_eq!(len as usize, out.len() - BLOCK_HEADER);
            let payload = Bytes::copy_from_slice(&out[BLOCK_HEADER..]);
            let Block::Rows(Family::Rev, found) = decode_block(kind, sum, payload.clone()).unwrap() else {
                panic!("another block");
            };
            prop_assert_eq!(found.len(), rows.len());
            for ((key, value), row) in rows.iter().zip(found) {
                prop_assert_eq!((&row.0[..], &row.1[..]), (&key[..], &value[..]));
            }
            let mut damaged = payload.to_vec();
            let at = flipped % damaged.len();
            damaged[at] ^= 4;
            prop_assert_eq!(decode_block(kind, sum, damaged.into()), Err(DecodeError("bad checksum")));
        }

        #[test]
        fn the_end_fills_a_sector(written in 0..5000u64, rows: u64, bytes: u64) {
            let mut out = Vec::new();
            put_end(&mut out, written, Totals { rows, bytes });
            prop_assert_eq!((written + out.len() as u64) % SECTOR, 0);
        }
    }
}
