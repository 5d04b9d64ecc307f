//! What a start finds in the log: reads every segment, cuts a torn tail, names corruption by file and offset.

use bytes::Bytes;

use super::record::{Framed, Record, find_valid};
use super::segment::{Directory, Segment, read_all};
use super::state::{Position, State};
use crate::config::OpenError;

/// The log as it was found.
pub struct Recovered {
    pub state: State,
    /// The segment to go on with, and where; none if a new one is due.
    pub active: Option<(Segment, u64)>,
    /// The number a new segment takes.
    pub next_number: u64,
    /// Segments on disk, ascending.
    pub segments: Vec<u64>,
    /// Bytes cut from the end.
    pub torn_bytes: u64,
}

/// Reads the log of `member`.
pub fn recover(directory: &Directory, member: u64) -> Result<Recovered, OpenError> {
    let mut numbers = directory.segments().map_err(OpenError::Log)?;
    let mut state = State::default();
    let mut active = None;
    let mut torn_bytes = 0;
    let next_number = numbers.last().map_or(1, |last| last + 1);
    let newest = numbers.last().copied();
    for (at, number) in numbers.clone().into_iter().enumerate() {
        if at > 0 && numbers[at - 1] + 1 != number {
            return Err(corrupt(
                directory,
                numbers[at - 1] + 1,
                0,
                "the segment is missing",
            ));
        }
        let bytes = read_all(&directory.path_of(number)).map_err(OpenError::Log)?;
        let mut scan = Scan {
            directory,
            number,
            member,
            bytes,
            offset: 0,
            state: &mut state,
        };
        let closed = scan.run()?;
        if closed {
            continue;
        }
        if Some(number) != newest {
            return Err(scan.corrupt("the record is damaged"));
        }
        let leftovers = scan.check_tail()?;
        if scan.offset == 0 {
            // The start was interrupted while it made this segment.
            directory.retire(number).map_err(OpenError::Log)?;
            directory.sync().map_err(OpenError::Log)?;
            numbers.pop();
            continue;
        }
        let offset = scan.offset as u64;
        let segment = directory.open_segment(number).map_err(OpenError::Log)?;
        if leftovers > 0 {
            torn_bytes = leftovers;
            close(&segment, offset).map_err(OpenError::Log)?;
        } else {
            active = Some((segment, offset));
        }
    }
    if state.committed > state.last {
        // An earlier version wrote this ahead of the entries that it commits. Without it the next leader finds it out.
        state.committed = None;
    }
    Ok(Recovered {
        state,
        active,
        next_number,
        segments: numbers,
        torn_bytes,
    })
}

/// Ends a segment at the cut, so that what lies behind can never be read as its continuation.
fn close(segment: &Segment, offset: u64) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut record = Vec::new();
    Record::Closed.encode(&mut record);
    super::record::seal(&mut record, segment.number, offset);
    segment.file.write_all_at(&record, offset)?;
    segment.file.sync_all()
}

fn corrupt(directory: &Directory, number: u64, offset: usize, reason: &str) -> OpenError {
    OpenError::LogCorrupt {
        file: directory.path_of(number),
        offset: offset as u64,
        reason: reason.to_owned(),
    }
}

/// Goes through one segment.
struct Scan<'a> {
    directory: &'a Directory,
    number: u64,
    member: u64,
    bytes: Bytes,
    offset: usize,
    state: &'a mut State,
}

impl Scan<'_> {
    /// Takes in records until one is not valid; whether the segment ended with its closing record.
    fn run(&mut self) -> Result<bool, OpenError> {
        while let Some(framed) = Framed::at(&self.bytes, self.offset, self.number) {
            let len = framed.len;
            let record = framed
                .decode()
                .map_err(|error| self.corrupt(&error.to_string()))?;
            if record == Record::Closed {
                return Ok(true);
            }
            self.take(record, len)?;
            self.offset += len;
        }
        Ok(false)
    }

    fn take(&mut self, record: Record, len: usize) -> Result<(), OpenError> {
        let state = &mut *self.state;
        match record {
            Record::Opened { member } if member != self.member => {
                return Err(self.corrupt("the segment belongs to another member"));
            }
            Record::Opened { .. } | Record::Closed => {}
            Record::Vote(vote) => state.vote = Some(vote),
            Record::Committed(id) => state.committed = id,
            Record::Purged(id) => state.purge(id),
            Record::TruncatedAfter(id) => {
                state.truncate_after(id);
                state.truncate_positions(id);
            }
            Record::Entry(entry) => {
                let index = entry.log_id.index;
                let follows = state.last.is_none_or(|last| last.index + 1 == index);
                // After a purge, entries before it may still be met: they are gone all the same.
                if state.purged.is_some_and(|purged| index <= purged.index) {
                    return Ok(());
                }
                if !follows && state.position(index.saturating_sub(1)).is_some() {
                    return Err(self.corrupt("the entry does not follow the one before it"));
                }
                let position = Position {
                    segment: self.number,
                    offset: self.offset as u32,
                    len: len as u32,
                };
                state.append(entry, len);
                state.written(index, position);
                state.evict();
            }
        }
        Ok(())
    }

    /// Looks behind the last valid record: bytes left over from a torn write, or proof of corruption.
    fn check_tail(&self) -> Result<u64, OpenError> {
        let leftovers = find_valid(&self.bytes, self.offset, self.number);
        if leftovers
            .iter()
            .any(|framed| framed.synced > self.offset as u64)
        {
            return Err(
                self.corrupt("the record is damaged, though later ones show that it was complete")
            );
        }
        Ok(leftovers.iter().map(|framed| framed.len as u64).sum())
    }

    fn corrupt(&self, reason: &str) -> OpenError {
        corrupt(self.directory, self.number, self.offset, reason)
    }
}
