//! A list as it is sent: a head, shared objects with commas between them, a tail; put together piece by piece.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::cache::CachedObject;

/// Bytes that one piece of a list has at least, unless it is the last.
const CHUNK_BYTES: usize = 64 << 10;

/// A list in the storage version, not encoded again: its objects' bytes are copied as they are sent.
pub(crate) struct ListBody {
    head: Bytes,
    objects: std::vec::IntoIter<Arc<CachedObject>>,
    first: bool,
    tail: Bytes,
    remaining: u64,
}

impl ListBody {
    /// `head` ends with the opening bracket of the items, `tail` begins with the closing one.
    pub fn new(head: Bytes, objects: Vec<Arc<CachedObject>>, tail: &'static [u8]) -> Self {
        let commas = objects.len().saturating_sub(1);
        let items: usize = objects.iter().map(|o| o.json.len()).sum();
        let remaining = (head.len() + items + commas + tail.len()) as u64;
        Self {
            head,
            objects: objects.into_iter(),
            first: true,
            tail: Bytes::from_static(tail),
            remaining,
        }
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    pub fn next_chunk(&mut self) -> Option<Bytes> {
        if self.remaining == 0 {
            return None;
        }
        let left = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let mut chunk = BytesMut::with_capacity(left.min(CHUNK_BYTES + CHUNK_BYTES / 4));
        self.fill(&mut chunk, CHUNK_BYTES);
        self.remaining -= chunk.len() as u64;
        Some(chunk.freeze())
    }

    fn fill(&mut self, chunk: &mut BytesMut, enough: usize) {
        chunk.put_slice(&std::mem::take(&mut self.head));
        while chunk.len() < enough {
            let Some(object) = self.objects.next() else {
                chunk.put_slice(&std::mem::take(&mut self.tail));
                return;
            };
            if !std::mem::replace(&mut self.first, false) {
                chunk.put_u8(b',');
            }
            chunk.put_slice(&object.json);
        }
    }

    /// All of it at once.
    pub fn into_bytes(mut self) -> Bytes {
        let mut all = BytesMut::with_capacity(usize::try_from(self.remaining).unwrap_or(0));
        self.fill(&mut all, usize::MAX);
        all.freeze()
    }
}
