//! Torn and damaged logs: cut at every byte, and with every byte flipped.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

use super::record::{Framed, Record};
use super::recover::recover;
use super::segment::Directory;
use super::storage::LogStorage;
use crate::OpenError;
use crate::command::{Batch, Command, Origin};
use crate::limits::{LOG_SEGMENT_BYTES, LOG_SHORT_SEGMENT_BYTES};
use crate::raft::{Entry, Payload, TypeConfig, Vote, log_id};

const MEMBER: u64 = 3;

fn open(path: &Path) -> Result<LogStorage, OpenError> {
    let sole = Arc::new(AtomicBool::new(true));
    LogStorage::open(
        path,
        LOG_SEGMENT_BYTES,
        MEMBER,
        Default::default(),
        Default::default(),
        sole,
    )
}

fn entry(term: u64, index: u64) -> Entry {
    let commands = vec![Command::LeaseGrant {
        id: index as i64,
        ttl: 1 << (index * 5),
    }];
    let batch = Batch {
        origin: Origin {
            member: MEMBER,
            boot: 2,
            sequence: index,
        },
        commands,
    };
    Entry {
        log_id: log_id(term, index),
        payload: Payload::Normal(batch.into()),
    }
}

async fn append(log: &mut LogStorage, term: u64, indexes: std::ops::Range<u64>) {
    let (done, flushed) = TypeConfig::oneshot();
    let entries: Vec<_> = indexes.map(|index| entry(term, index)).collect();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    flushed.await.unwrap().unwrap();
}

/// A log of three flushes after the vote: entries 0..3, 3..4, 4..8. Its one segment, without the empty rest.
async fn sample(path: &Path) -> Vec<u8> {
    let mut log = open(path).unwrap();
    log.save_vote(&Vote::new_committed(1, MEMBER))
        .await
        .unwrap();
    append(&mut log, 1, 0..3).await;
    append(&mut log, 1, 3..4).await;
    append(&mut log, 1, 4..8).await;
    drop(log);
    let mut bytes = fs::read(path.join("0000000000000001.log")).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(end.next_multiple_of(8));
    bytes
}

fn last_index(found: &super::recover::Recovered) -> Option<u64> {
    found.state.last.map(|last| last.index)
}

#[tokio::test]
async fn a_log_cut_at_any_byte_keeps_what_was_complete() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = sample(&dir.path().join("whole")).await;
    let path = dir.path().join("cut");
    let mut previous = None;
    for length in 0..=bytes.len() {
        let directory = Directory::open(path.clone(), LOG_SEGMENT_BYTES).unwrap();
        let file = directory.path_of(1);
        fs::write(&file, &bytes[..length]).unwrap();
        let found = recover(&directory, MEMBER).unwrap();
        let last = last_index(&found);
        assert!(
            last == previous || last == previous.map_or(Some(0), |last| Some(last + 1)),
            "cut at {length}"
        );
        previous = last;
        fs::remove_dir_all(&path).unwrap();
    }
    assert_eq!(previous, Some(7));
}

#[tokio::test]
async fn a_flipped_byte_is_a_torn_tail_or_named_as_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = sample(&dir.path().join("whole")).await;
    let path = dir.path().join("flipped");
    let (mut cut, mut named) = (0, 0);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        let directory = Directory::open(path.clone(), LOG_SEGMENT_BYTES).unwrap();
        let file = directory.path_of(1);
        fs::write(&file, &flipped).unwrap();
        match recover(&directory, MEMBER) {
            // Padding is not summed: flipping it changes nothing.
            Ok(found) if last_index(&found) == Some(7) => {}
            // The last flush may have been torn: nothing later proves that it was complete.
            Ok(found) => {
                assert!(
                    last_index(&found) >= Some(3),
                    "byte {at} lost durable entries"
                );
                cut += 1;
            }
            Err(OpenError::LogCorrupt {
                file: named_file,
                offset,
                ..
            }) => {
                assert_eq!(named_file, file);
                assert!(
                    offset <= at as u64 && at as u64 - offset < 200,
                    "byte {at} named as {offset}"
                );
                named += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
        fs::remove_dir_all(&path).unwrap();
    }
    assert!(cut > 50 && named > 100, "{cut} cut, {named} named");
}

#[tokio::test]
async fn what_lies_behind_a_cut_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut bytes = sample(&path).await;
    // The last flush is torn: its first record is damaged, those behind it are whole.
    let whole = bytes::Bytes::from(bytes.clone());
    let records: Vec<_> = {
        let (mut at, mut starts) = (0, Vec::new());
        while let Some(framed) = super::record::Framed::at(&whole, at, 1) {
            starts.push(at);
            at += framed.len;
        }
        starts
    };
    let torn = records[records.len() - 4];
    bytes[torn + 30] ^= 1;
    fs::write(path.join("0000000000000001.log"), &bytes).unwrap();
    for term in 2..4 {
        let mut log = open(&path).unwrap();
        let last = log.get_log_state().await.unwrap().last_log_id.unwrap();
        assert_eq!(
            last,
            if term == 2 {
                log_id(1, 3)
            } else {
                log_id(2, 4)
            }
        );
        if term == 2 {
            append(&mut log, 2, 4..5).await;
        }
    }
}

#[tokio::test]
async fn truncation_purge_and_votes_survive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = open(&path).unwrap();
    append(&mut log, 1, 0..6).await;
    log.truncate_after(Some(log_id(1, 3))).await.unwrap();
    append(&mut log, 2, 4..7).await;
    log.purge(log_id(1, 1)).await.unwrap();
    log.save_committed(Some(log_id(2, 5))).await.unwrap();
    log.save_vote(&Vote::new(9, 4)).await.unwrap();
    let expected: Vec<_> = vec![
        entry(1, 2),
        entry(1, 3),
        entry(2, 4),
        entry(2, 5),
        entry(2, 6),
    ];
    for _ in 0..2 {
        let mut reader = log.get_log_reader().await;
        assert_eq!(reader.try_get_log_entries(2..7).await.unwrap(), expected);
        assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new(9, 4)));
        assert_eq!(log.read_committed().await.unwrap(), Some(log_id(2, 5)));
        let state = log.get_log_state().await.unwrap();
        assert_eq!(
            (state.last_purged_log_id, state.last_log_id),
            (Some(log_id(1, 1)), Some(log_id(2, 6)))
        );
        drop((log, reader));
        log = open(&path).unwrap();
    }
}

/// A segment begins with what was committed before it, not with what the entries behind that are about to commit: these
/// may be torn, and others stand in their place.
#[tokio::test]
async fn nothing_is_committed_that_a_tear_may_take_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = open(&path).unwrap();
    append(&mut log, 1, 0..4).await;
    log.save_committed(Some(log_id(1, 1))).await.unwrap();
    append(&mut log, 1, 4..6).await;
    // More than what is left of the first segment: the batch begins the next one.
    let large = Command::Put(crate::PutRequest {
        key: "k".into(),
        value: vec![1; LOG_SHORT_SEGMENT_BYTES as usize].into(),
        ..Default::default()
    });
    let mut first = entry(2, 6);
    if let Payload::Normal(proposal) = &mut first.payload {
        let mut batch = proposal.batch().clone();
        batch.commands = vec![large];
        *proposal = batch.into();
    }
    log.enqueue([Record::Entry(first)].into_iter(), None);
    log.save_committed(Some(log_id(2, 6))).await.unwrap();
    append(&mut log, 2, 7..8).await;
    assert_eq!(
        log.read_committed().await.unwrap(),
        Some(log_id(2, 6)),
        "for who runs on"
    );
    drop(log);
    let newest = path.join("0000000000000002.log");
    let mut bytes = fs::read(&newest).unwrap();
    let mut offset = 0;
    while let Some(framed) = Framed::at(&bytes.clone().into(), offset, 2) {
        let len = framed.len;
        if matches!(framed.decode().unwrap(), Record::Entry(_)) {
            break;
        }
        offset += len;
    }
    assert!(offset > 0);
    bytes[offset..].fill(0);
    fs::write(&newest, bytes).unwrap();
    let mut log = open(&path).unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 1)));
    assert_eq!(
        log.get_log_state().await.unwrap().last_log_id,
        Some(log_id(1, 5))
    );
}

#[tokio::test]
async fn a_promised_vote_is_kept_once_and_never_takes_a_higher_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = open(&path).unwrap();
    log.save_vote(&Vote::new(4, 1)).await.unwrap();
    log.votes().promise(Vote::new(5, 2));
    log.save_vote(&Vote::new(5, 2)).await.unwrap();
    log.votes().promise(Vote::new(4, 3));
    log.votes().promise(Vote::new(5, 3));
    append(&mut log, 5, 0..1).await;
    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new(5, 2)));
    log.votes().promise(Vote::new(6, 3));
    // The promise was made to nobody: what is decided meanwhile counts.
    log.save_vote(&Vote::new_committed(5, 2)).await.unwrap();
    drop((log, reader));
    let bytes = fs::read(path.join("0000000000000001.log")).unwrap().into();
    let (mut votes, mut offset) = (Vec::new(), 0);
    while let Some(framed) = Framed::at(&bytes, offset, 1) {
        offset += framed.len;
        if let Record::Vote(vote) = framed.decode().unwrap() {
            votes.push(vote);
        }
    }
    let expected = [
        Vote::new(4, 1),
        Vote::new(5, 2),
        Vote::new(6, 3),
        Vote::new_committed(5, 2),
    ];
    // The segment begins with the vote that was known when it was made.
    votes.dedup();
    assert_eq!(votes, expected);
}

#[tokio::test]
async fn another_members_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let refused = recover(
        &Directory::open(dir.path().to_owned(), LOG_SEGMENT_BYTES).unwrap(),
        MEMBER + 1,
    )
    .map(drop)
    .unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("offset 0: the segment belongs to another member"),
        "{refused}"
    );
}
