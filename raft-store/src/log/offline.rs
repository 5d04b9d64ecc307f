//! The log without Raft: read by a command that founds a cluster anew, and begun for a member of the new one.

use std::io;
use std::path::Path;

use openraft::storage::RaftLogReader;
use tokio::sync::oneshot;

use super::flusher::Waiter;
use super::record::Record;
use super::storage::{LogReader, LogStorage};
use crate::config::OpenError;
use crate::limits;
use crate::raft::{Entry, LogId, Vote};

/// A log that is only read.
pub struct Offline {
    log: LogStorage,
    reader: LogReader,
}

/// Entries read at a time.
const ENTRIES_AT_ONCE: u64 = 64;

impl LogStorage {
    /// Opens the log of `member` to read it.
    pub fn open_offline(path: &Path, member: u64) -> Result<Offline, OpenError> {
        let log = LogStorage::open(
            path,
            limits::LOG_SEGMENT_BYTES,
            member,
            Default::default(),
            Default::default(),
            Default::default(),
        )?;
        let reader = log.reader();
        Ok(Offline { log, reader })
    }

    /// Begins the log of a member whose state already holds everything up to `applied`, as its only content.
    pub fn found(path: &Path, member: u64, applied: LogId) -> Result<(), OpenError> {
        let log = LogStorage::open_offline(path, member)?.log;
        let (done, durable) = oneshot::channel();
        let records = [
            Record::Purged(applied),
            // No leader of an earlier term may be followed.
            Record::Vote(Vote::new(applied.leader_id.term, member)),
        ];
        log.enqueue(records.into_iter(), Some(Waiter::Other(done)));
        // Dropping the log waits for its flusher, which ends the process if it fails.
        drop(log);
        drop(durable);
        std::fs::File::open(path)
            .and_then(|directory| directory.sync_all())
            .map_err(OpenError::Log)
    }
}

impl Offline {
    /// The term of the vote.
    pub fn term(&mut self) -> u64 {
        let vote = futures::executor::block_on(self.reader.read_vote());
        vote.ok().flatten().map_or(0, |vote| vote.leader_id.term)
    }

    /// Visits the entries after `applied`, in order.
    pub fn read_after(
        &mut self,
        applied: Option<LogId>,
        visit: &mut dyn FnMut(Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut next = applied.map_or(0, |id| id.index + 1);
        if let Some(purged) = self.log.purged()
            && purged.index >= next
        {
            return Err(io::Error::other(format!(
                "the log begins behind the state: entries {next} to {} are missing",
                purged.index
            )));
        }
        loop {
            let entries = self.reader.entries(next..next + ENTRIES_AT_ONCE)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                next = entry.log_id.index + 1;
                visit(entry)?;
            }
        }
    }
}
