//! One change of one object, with the lines that watchers get: made once, on first use, shared by all of them.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::object::CachedObject;
use crate::store::Revision;

/// What a watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Renditions other than the storage version's JSON that one event keeps (Table, other versions).
const RENDITIONS_LIMIT: usize = 4;

/// One change.
#[derive(Debug)]
pub(crate) struct CacheEvent {
    pub revision: Revision,
    /// The new state; none for a delete.
    pub current: Option<Arc<CachedObject>>,
    pub previous: Option<Arc<CachedObject>>,
    lines: [OnceLock<Bytes>; 3],
    renditions: Mutex<Vec<(u64, Bytes)>>,
}

impl CacheEvent {
    pub fn new(
        revision: Revision,
        current: Option<Arc<CachedObject>>,
        previous: Option<Arc<CachedObject>>,
    ) -> Self {
        Self {
            revision,
            current,
            previous,
            lines: Default::default(),
            renditions: Mutex::default(),
        }
    }

    /// The state that an event of a type shows, and its bytes.
    pub fn object(&self, event_type: EventType) -> Option<(&Arc<CachedObject>, Bytes)> {
        match event_type {
            EventType::Deleted => self
                .previous
                .as_ref()
                .map(|o| (o, o.json_at(self.revision))),
            _ => self.current.as_ref().map(|o| (o, o.json.clone())),
        }
    }

    /// The key of the object that changed.
    pub fn key(&self) -> &str {
        self.current
            .as_ref()
            .or(self.previous.as_ref())
            .map_or("", |o| &o.key)
    }

    /// The event as one line of a watch in the storage version.
    pub fn line(&self, event_type: EventType) -> Bytes {
        let make = || {
            self.object(event_type)
                .map_or_else(Bytes::new, |(_, json)| line(event_type, &json))
        };
        self.lines[event_type as usize].get_or_init(make).clone()
    }

    /// The event in another form, kept under a number that stands for the form and the type.
    pub fn rendition(&self, form: u64, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut kept = self.renditions.lock();
        if let Some((_, bytes)) = kept.iter().find(|(f, _)| *f == form) {
            return bytes.clone();
        }
        let bytes = make();
        if kept.len() < RENDITIONS_LIMIT {
            kept.push((form, bytes.clone()));
        }
        bytes
    }

    /// Bytes that this event alone may hold in memory.
    pub fn weight(&self) -> usize {
        let size = |o: &Option<Arc<CachedObject>>| o.as_ref().map_or(0, |o| o.json.len());
        // The current state is in the cache anyway; the line is a copy of it.
        size(&self.previous) + size(&self.current)
    }
}

/// A line of a watch around an object that is encoded already.
pub(crate) fn line(event_type: EventType, json: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(json.len() + 32);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(event_type.as_str().as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(json);
    out.put_slice(b"}\n");
    out.freeze()
}
