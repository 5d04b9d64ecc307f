//! Reading a snapshot file: block after block, every checksum looked at, damage named by its offset.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::SnapshotError;
use super::format::{
    self, BLOCK_HEADER, Block, DIGEST, FORMAT, Header, MAGIC, Totals, parse_block_header,
};
use crate::mvcc::engine::Family;

/// What a verified snapshot is, and how much it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub header: Header,
    /// Versions of keys in the history.
    pub versions: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Over all rows: equal for equal states, whenever and by whom the snapshot was made.
    pub hash: u32,
    /// The checksum at the end.
    pub digest: [u8; DIGEST],
}

/// Takes in the rows of one block.
pub type TakeRows<'a> = dyn FnMut(Family, Vec<(Bytes, Bytes)>) -> Result<(), SnapshotError> + 'a;

/// Reads a snapshot through and checks everything. With `skip_digest` the checksum at the end may be wrong or absent
/// (a copy of a file whose blocks are whole).
pub fn verify(path: &Path, skip_digest: bool) -> Result<Summary, SnapshotError> {
    read(path, skip_digest, &mut |_, _| Ok(()))
}

/// As [`verify`]; hands the rows to `take` on the way. They mean nothing until all of them were found whole.
pub fn read(
    path: &Path,
    skip_digest: bool,
    take: &mut TakeRows<'_>,
) -> Result<Summary, SnapshotError> {
    let mut file = Blocks::open(path)?;
    let mut summary = Summary {
        header: file.header()?,
        versions: 0,
        size: file.size,
        hash: 0,
        digest: [0; DIGEST],
    };
    let mut found = Totals::default();
    loop {
        let at = file.offset;
        match file.next()? {
            Block::Header(_) => return Err(file.damaged(at, "a second header")),
            Block::Padding => {}
            Block::Rows(family, rows) => {
                for (key, value) in &rows {
                    found.rows += 1;
                    found.bytes += (key.len() + value.len()) as u64;
                    summary.hash = crc32c::crc32c_append(summary.hash, key);
                    summary.hash = crc32c::crc32c_append(summary.hash, value);
                }
                summary.versions += u64::from(family == Family::Rev) * rows.len() as u64;
                take(family, rows)?;
            }
            Block::End(totals) if totals == found => break,
            Block::End(_) => {
                return Err(file.damaged(at, "rows are missing before the end"));
            }
        }
    }
    summary.digest = match file.digest() {
        Err(_) if skip_digest => [0; DIGEST],
        digest => digest?,
    };
    Ok(summary)
}

/// The blocks of a file, in order.
struct Blocks {
    path: PathBuf,
    file: BufReader<File>,
    size: u64,
    offset: u64,
    sum: Sha256,
}

impl Blocks {
    fn open(path: &Path) -> Result<Self, SnapshotError> {
        let failed = |source| SnapshotError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(256 * 1024, file),
            size,
            offset: 0,
            sum: Sha256::new(),
        })
    }

    fn damaged(&self, offset: u64, reason: &str) -> SnapshotError {
        SnapshotError::Damaged {
            path: self.path.clone(),
            offset,
            reason: reason.to_owned(),
        }
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), SnapshotError> {
        if self.offset + out.len() as u64 > self.size {
            return Err(self.damaged(self.size, "the file ends too early"));
        }
        self.file
            .read_exact(out)
            .map_err(|source| SnapshotError::Io {
                path: self.path.clone(),
                source,
            })?;
        self.offset += out.len() as u64;
        Ok(())
    }

    /// What a snapshot begins with.
    fn header(&mut self) -> Result<Header, SnapshotError> {
        let mut magic = [0; MAGIC.len()];
        self.fill(&mut magic)?;
        if magic != MAGIC {
            return Err(self.damaged(0, "this is not a snapshot of this store"));
        }
        self.sum.update(magic);
        match self.next()? {
            Block::Header(header) if header.format == FORMAT => Ok(*header),
            Block::Header(header) => Err(SnapshotError::Format {
                path: self.path.clone(),
                found: header.format,
                supported: FORMAT,
            }),
            _ => Err(self.damaged(MAGIC.len() as u64, "the header is missing")),
        }
    }

    fn next(&mut self) -> Result<Block, SnapshotError> {
        let start = self.offset;
        let mut raw = [0; BLOCK_HEADER];
        self.fill(&mut raw)?;
        let (kind, len, sum) = parse_block_header(&raw);
        // Looked at before memory is taken: a damaged length must not ask for gigabytes.
        if self.offset + u64::from(len) > self.size {
            return Err(self.damaged(start, "the block reaches beyond the end of the file"));
        }
        let mut payload = vec![0; len as usize];
        self.fill(&mut payload)?;
        self.sum.update(raw);
        self.sum.update(&payload);
        format::decode_block(kind, sum, payload.into())
            .map_err(|error| self.damaged(start, error.0))
    }

    /// The checksum behind the last block, compared with what was read.
    fn digest(&mut self) -> Result<[u8; DIGEST], SnapshotError> {
        let start = self.offset;
        let mut digest = [0; DIGEST];
        self.fill(&mut digest)?;
        if self.offset != self.size {
            return Err(self.damaged(self.offset, "bytes after the end"));
        }
        if self.sum.clone().finalize()[..] != digest {
            return Err(self.damaged(start, "the SHA-256 of the file is another"));
        }
        Ok(digest)
    }
}
