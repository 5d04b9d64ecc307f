//! What the fuzzer feeds to the reader of snapshot files: a whole one, and edited ones whose checksums are right again.

use sha2::{Digest, Sha256};

use super::format::{self, BLOCK_HEADER, FORMAT, Header, MAGIC, Rows, Totals};
use crate::mvcc::engine::Family;

/// A snapshot of two rows.
pub fn sample_file() -> Vec<u8> {
    let header = Header {
        format: FORMAT,
        cluster_id: 1,
        member_id: 2,
        term: 3,
        index: 300,
        membership: Default::default(),
        revision: 9,
        compacted: 4,
    };
    let mut out = MAGIC.to_vec();
    format::put_header(&mut out, &header);
    let mut totals = Totals::default();
    for family in [Family::Current, Family::Rev] {
        let mut rows = Rows::new(family);
        rows.push(b"key", b"value");
        rows.put(&mut out);
        totals.rows += 1;
        totals.bytes += 8;
    }
    let written = out.len() as u64;
    format::put_end(&mut out, written, totals);
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    out
}

/// Makes the checksums of all blocks that are whole right, and that of the file behind them.
pub fn reseal(file: &mut Vec<u8>) {
    let mut at = MAGIC.len();
    while let Some(raw) = file.get(at..).and_then(<[u8]>::first_chunk::<BLOCK_HEADER>) {
        let (kind, len, _) = format::parse_block_header(raw);
        let payload = at + BLOCK_HEADER;
        let end = payload + len as usize;
        let Some(content) = file.get(payload..end) else {
            break;
        };
        let sum = format::checksum(kind, content);
        file[at + 8..payload].copy_from_slice(&sum.to_le_bytes());
        at = end;
        if kind == format::END {
            break;
        }
    }
    file.truncate(at);
    let digest = Sha256::digest(file.as_slice());
    file.extend_from_slice(&digest);
}
