//! The end of the log: whole blocks, written past the page cache where the file system allows it.
//!
//! A sync then only waits for the disk: nothing is to be written back, and a segment's blocks were all written before
//! ([`super::spare`]), so that the file system has nothing of its own to write either. The last block, not full yet, is
//! written again with what follows; its first bytes stay what they are.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::segment::{Directory, Segment};
use crate::limits;

/// What direct writes are aligned to, in the file and in memory: no less than the block of any disk or file system met.
const BLOCK: usize = 4096;

/// A segment, and where the next record goes.
pub struct Appender {
    pub segment: Segment,
    pub end: u64,
    /// The same file past the page cache; none where the file system has no such thing.
    direct: Option<File>,
}

impl Appender {
    /// Goes on with `segment` at `end`; `blocks` takes over what stands before it in the last block.
    pub fn new(
        directory: &Directory,
        segment: Segment,
        end: u64,
        blocks: &mut Blocks,
    ) -> io::Result<Self> {
        let direct = open_direct(directory, segment.number);
        blocks.begin(&segment.file, end)?;
        Ok(Self {
            segment,
            end,
            direct,
        })
    }

    /// Whether `len` bytes have room.
    pub fn has_room(&self, len: u64) -> bool {
        self.end + len <= self.segment.capacity
    }

    /// Writes `bytes` behind the end. They are durable after a sync.
    pub fn append(&mut self, bytes: &[u8], blocks: &mut Blocks) -> io::Result<()> {
        match &self.direct {
            Some(direct) => {
                let start = self.end - self.end % BLOCK as u64;
                let written = direct.write_all_at(blocks.with(bytes), start);
                match written {
                    // Opened, but not to be written to.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                        self.direct = None;
                        self.segment.file.write_all_at(bytes, self.end)?;
                    }
                    written => written?,
                }
                blocks.keep_last();
            }
            None => self.segment.file.write_all_at(bytes, self.end)?,
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.segment.file.sync_data()
    }
}

fn open_direct(directory: &Directory, number: u64) -> Option<File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_DIRECT);
    options.open(directory.path_of(number)).ok()
}

/// Memory for whole blocks at an aligned address: what the last block holds so far, then what is to be written.
#[derive(Default)]
pub struct Blocks {
    memory: Vec<u8>,
    /// Bytes behind which the address is aligned.
    skip: usize,
    /// Bytes of records.
    len: usize,
}

impl Blocks {
    /// Takes over the last block of a file whose records end at `end`.
    fn begin(&mut self, file: &File, end: u64) -> io::Result<()> {
        self.len = 0;
        let held = (end % BLOCK as u64) as usize;
        self.reserve(held);
        let room = self.range(0..held);
        file.read_exact_at(&mut self.memory[room], end - held as u64)?;
        self.len = held;
        Ok(())
    }

    /// The last block with `bytes` behind what it held, filled up with zeros: all that is to be written.
    fn with(&mut self, bytes: &[u8]) -> &[u8] {
        let (from, to) = (self.len, self.len + bytes.len());
        self.reserve(to);
        let room = self.range(from..to);
        self.memory[room].copy_from_slice(bytes);
        self.len = to;
        let padded = to.next_multiple_of(BLOCK);
        let padding = self.range(to..padded);
        self.memory[padding].fill(0);
        let whole = self.range(0..padded);
        &self.memory[whole]
    }

    /// Forgets the blocks that are full.
    fn keep_last(&mut self) {
        let full = self.len - self.len % BLOCK;
        let held = self.range(full..self.len);
        self.memory.copy_within(held, self.skip);
        self.len -= full;
        if self.memory.len() > limits::LOG_BUFFER_BYTES {
            self.reserve_anew(BLOCK);
        }
    }

    fn range(&self, of: Range<usize>) -> Range<usize> {
        self.skip + of.start..self.skip + of.end
    }

    /// Makes room for `len` bytes and their padding.
    fn reserve(&mut self, len: usize) {
        let wanted = len.next_multiple_of(BLOCK).max(BLOCK);
        if self.skip + wanted > self.memory.len() {
            self.reserve_anew(wanted);
        }
    }

    fn reserve_anew(&mut self, wanted: usize) {
        let mut memory = vec![0; wanted.next_power_of_two() + BLOCK];
        let skip = memory.as_ptr().align_offset(BLOCK);
        let held = self.range(0..self.len);
        memory[skip..skip + self.len].copy_from_slice(&self.memory[held]);
        (self.memory, self.skip) = (memory, skip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_what_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path().to_owned(), 4 * 1024 * 1024).unwrap();
        let mut blocks = Blocks::default();
        let segment = directory.create(1, 4 * 1024 * 1024).unwrap();
        let mut appender = Appender::new(&directory, segment, 0, &mut blocks).unwrap();
        let mut expected = Vec::new();
        for (round, len) in [1, 7, 4088, 4096, 12_288, 1, 900_000, 300, 8191, 1]
            .into_iter()
            .enumerate()
        {
            let bytes = vec![round as u8 + 1; len];
            appender.append(&bytes, &mut blocks).unwrap();
            appender.sync().unwrap();
            expected.extend(bytes);
            if round % 3 == 2 {
                // As after a restart, or with the memory of another segment.
                let segment = directory.open_segment(1).unwrap();
                let end = appender.end;
                appender = Appender::new(&directory, segment, end, &mut blocks).unwrap();
            }
        }
        let found = std::fs::read(directory.path_of(1)).unwrap();
        assert_eq!(appender.end, expected.len() as u64);
        assert!(found[..expected.len()] == expected);
        assert!(found[expected.len()..].iter().all(|byte| *byte == 0));
    }
}
