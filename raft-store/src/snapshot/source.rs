//! Where a snapshot comes from: a pinned view of one moment, streamed block by block while the store goes on.
//!
//! The same source gives the same bytes each time, so that a stream that broke off goes on at an offset.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::Stream;
use rand::Rng;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::format::{self, FORMAT, Header, MAGIC, Rows, Totals};
use crate::mvcc::engine::{EngineError, Family, Step};
use crate::raft::{Applied, StoredMembership, load_applied};
use crate::{Error, limits, threads};

/// A consistent state of this member. Holding one keeps its rows on disk.
pub struct Source {
    /// Chosen by chance: names these very bytes to whom they are sent.
    pub id: u64,
    pub header: Header,
    pub taken: Instant,
    view: Arc<Applied>,
    size: OnceLock<u64>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("id", &self.id)
            .field("index", &self.header.index)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// The state that `view` shows. An engine that nothing was applied to yet has none to send.
    pub fn new(
        cluster_id: u64,
        member_id: u64,
        view: Arc<Applied>,
    ) -> Result<Option<Self>, EngineError> {
        let (applied, membership): (_, StoredMembership) = load_applied(&view.snapshot)?;
        let Some(applied) = applied else {
            return Ok(None);
        };
        let header = Header {
            format: FORMAT,
            cluster_id,
            member_id,
            term: applied.leader_id.term,
            index: applied.index,
            membership,
            revision: view.horizon.revision,
            compacted: view.horizon.compacted,
        };
        Ok(Some(Self {
            id: rand::rng().random(),
            header,
            taken: Instant::now(),
            view,
            size: OnceLock::new(),
        }))
    }

    /// Bytes of the whole snapshot. The first call reads the state through: call it where blocking is allowed.
    pub fn size(&self) -> Result<u64, EngineError> {
        if let Some(size) = self.size.get() {
            return Ok(*size);
        }
        let mut size = 0;
        self.write(&mut |block| {
            size += block.len() as u64;
            Ok(())
        })?;
        size += format::DIGEST as u64;
        Ok(*self.size.get_or_init(|| size))
    }

    /// Produces all but the checksum at the end, in pieces of about a block.
    fn write(
        &self,
        sink: &mut dyn FnMut(Vec<u8>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut written = 0;
        let mut sink = |out: &mut Vec<u8>| -> Result<u64, EngineError> {
            written += out.len() as u64;
            sink(std::mem::take(out))?;
            Ok(written)
        };
        let mut out = MAGIC.to_vec();
        format::put_header(&mut out, &self.header);
        sink(&mut out)?;
        let mut totals = Totals::default();
        for family in Family::ALL {
            let mut rows = Rows::new(family);
            self.view.snapshot.scan_all(family, &mut |key, value| {
                rows.push(key, value);
                totals.rows += 1;
                totals.bytes += (key.len() + value.len()) as u64;
                if rows.len() >= limits::SNAPSHOT_BLOCK_BYTES {
                    rows.put(&mut out);
                    sink(&mut out)?;
                }
                Ok(Step::Next)
            })?;
            if !rows.is_empty() {
                rows.put(&mut out);
            }
        }
        let written = sink(&mut out)?;
        format::put_end(&mut out, written, totals);
        sink(&mut out)?;
        Ok(())
    }

    /// The bytes from `offset` on. Reading happens on a thread of its own, a few blocks ahead of the receiver.
    pub fn stream(self: &Arc<Self>, offset: u64) -> mpsc::Receiver<Block> {
        let ahead = match threads::simulated() {
            true => usize::MAX >> 4,
            false => limits::SNAPSHOT_BLOCKS_AHEAD,
        };
        let (sender, receiver) = mpsc::channel(ahead);
        let source = self.clone();
        threads::spawn_blocking(move || source.send(offset, &sender));
        receiver
    }

    fn send(&self, offset: u64, sender: &mpsc::Sender<Block>) {
        let gone = || EngineError::Io("the snapshot's receiver has gone".to_owned());
        let mut digest = Sha256::new();
        let mut skip = offset;
        let mut push = |out: Bytes| {
            let skipped = skip.min(out.len() as u64);
            skip -= skipped;
            let rest = out.slice(skipped as usize..);
            if rest.is_empty() && !sender.is_closed() {
                return Ok(());
            }
            send(sender, Ok(rest)).map_err(|()| gone())
        };
        let result = self.write(&mut |out| {
            digest.update(&out);
            push(out.into())
        });
        let result = result.and_then(|()| push(Bytes::copy_from_slice(&digest.finalize())));
        if let Err(error) = result {
            // A receiver that has gone does not hear of it, and need not.
            let _ = send(sender, Err(error));
        }
    }
}

type Block = Result<Bytes, EngineError>;

fn send(to: &mpsc::Sender<Block>, block: Block) -> Result<(), ()> {
    match threads::simulated() {
        // A thread that all share cannot wait; there is room for everything.
        true => to.try_send(block).map_err(drop),
        false => to.blocking_send(block).map_err(drop),
    }
}

/// A snapshot of a member's state as a stream of bytes. The last 32 are the SHA-256 of all before them.
pub struct SnapshotStream {
    /// Bytes of the whole stream.
    pub size: u64,
    /// Revision of the state.
    pub revision: i64,
    pub(crate) blocks: mpsc::Receiver<Block>,
}

impl std::fmt::Debug for SnapshotStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotStream")
            .field("size", &self.size)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl Stream for SnapshotStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let block = std::task::ready!(self.blocks.poll_recv(context));
        Poll::Ready(block.map(|block| block.map_err(|error| Error::Storage(error.to_string()))))
    }
}
