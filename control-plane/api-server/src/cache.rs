//! The watch cache: every object as the bytes that clients get, kept current by one watch on the store.
//!
//! An object is encoded when it changes and never when it is read. Reads and watches of every kind are served from here;
//! the store itself is asked only for its revision and for history that is no longer held. Knows nothing of HTTP or users.

mod event;
mod feed;
mod history;
mod kind_cache;
mod object;
mod reader;
mod scan;
mod watcher;

pub(crate) use event::{CacheEvent, EventType, line as event_line};
pub(crate) use feed::{Caches, FeedError};
pub(crate) use kind_cache::{Held, KindCache, Selected, WatchStart};
pub(crate) use object::{CachedObject, with_resource_version};
pub(crate) use reader::CacheReader;
pub(crate) use scan::{field_text, sub_object};
pub(crate) use watcher::{Interest, Watcher, WatcherEvents};
