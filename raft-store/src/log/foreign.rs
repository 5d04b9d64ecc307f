//! What the fuzzer feeds to the log: whole segments, in a folder as a start finds them.

use std::path::Path;

use super::record::{HEADER, Record, is_record, seal};
use super::recover::{Recovered, recover};
use super::segment::Directory;
use crate::command::Batch;
use crate::raft::{Entry, Payload, Vote, log_id};

/// Reads a log that lies there; whether it was taken. What was recovered once is recovered again.
pub fn recover_foreign(folder: &Path, member: u64) -> bool {
    let start = || {
        let directory = Directory::open(folder.to_owned(), 4096);
        recover(&directory.expect("the folder is there"), member)
    };
    let Ok(first) = start() else {
        return false;
    };
    let again = start().expect("what was recovered is recovered again");
    let found = |recovered: &Recovered| {
        let state = &recovered.state;
        (state.vote, state.committed, state.purged, state.last)
    };
    assert_eq!(found(&again), found(&first));
    assert_eq!(again.torn_bytes, 0, "what was torn was cut");
    true
}

/// Makes the checksums of all records right.
pub fn reseal(segment: &mut [u8], number: u64) {
    let mut at = 0;
    while let Some(record) = segment.get_mut(at..).filter(|rest| rest.len() >= HEADER) {
        let word = |at: usize| <[u8; 4]>::try_from(&record[at..at + 4]).expect("four bytes");
        let payload = u32::from_le_bytes(word(8)) as usize;
        at += match is_record(word(0)) && HEADER + payload <= record.len() {
            true => {
                let synced = <[u8; 8]>::try_from(&record[16..24]).expect("eight bytes");
                seal(record, number, u64::from_le_bytes(synced))
            }
            false => 8,
        };
    }
}

/// Two segments with every kind of record; the second goes on.
pub fn sample_segments(batch: &Batch, member: u64) -> [Vec<u8>; 2] {
    let entry = |term, index, payload| {
        Record::Entry(Entry {
            log_id: log_id(term, index),
            payload,
        })
    };
    let first = [
        Record::Opened { member },
        Record::Vote(Vote::new(3, member)),
        entry(3, 4, Payload::Blank),
        entry(3, 5, Payload::Normal(batch.clone().into())),
        Record::Committed(Some(log_id(3, 4))),
        Record::Closed,
    ];
    let second = [
        Record::Opened { member },
        entry(3, 6, Payload::Blank),
        Record::TruncatedAfter(Some(log_id(3, 5))),
        entry(4, 6, Payload::Membership(Default::default())),
        Record::Purged(log_id(3, 4)),
    ];
    [segment(1, &first), segment(2, &second)]
}

fn segment(number: u64, records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let start = out.len();
        record.encode(&mut out);
        seal(&mut out[start..], number, 0);
    }
    // Zeros that were written before the segment was used.
    out.resize(out.len() + 64, 0);
    out
}
