//! Feeds all caches from one watch on the store, and tells how far they are.
//!
//! At the start the state of a little while ago is loaded and the changes since are replayed, so that watches of clients
//! survive a restart of the server.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api_machinery::{KindTable, STORAGE_ROOT};
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::kind_cache::KindCache;
use super::object::CachedObject;
use crate::store::{Entry, KeyRange, Revision, Store, StoreError, StoreEvent};

/// Revisions before the newest that are replayed at the start.
const PREHISTORY_REVISIONS: Revision = 1000;
/// Entries that one read of the first load fetches.
const PAGE_ENTRIES: usize = 1000;
/// How long the feed waits before it reaches for a store again that does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// The field by which watches of pods are sorted: every node watches its own.
const INDEXED_FIELD: &str = "spec.nodeName";

/// All watch caches.
pub(crate) struct Caches {
    store: Arc<dyn Store>,
    /// By key prefix.
    kinds: BTreeMap<String, Arc<KindCache>>,
    /// The same as `applied`, for readers that do not wait.
    revision: Arc<AtomicU64>,
    applied: watch::Sender<Revision>,
}

/// The cache did not get to a revision.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("the cache is at revision {current}, before {wanted}")]
    Behind { wanted: Revision, current: Revision },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long a read waits for the cache to reach its revision.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(3);

impl Caches {
    /// Empty caches for every stored kind of the table.
    pub fn new(store: Arc<dyn Store>, table: &KindTable) -> Self {
        let revision = Arc::new(AtomicU64::new(0));
        let mut kinds = BTreeMap::new();
        for kind in table.iter() {
            let Some(prefix) = kind.storage_list_prefix(None) else {
                continue;
            };
            let indexed = kind
                .selectable_fields
                .iter()
                .any(|f| f.label == INDEXED_FIELD);
            let cache = KindCache::new(
                prefix.clone(),
                indexed.then_some(INDEXED_FIELD),
                revision.clone(),
            );
            kinds.insert(prefix, Arc::new(cache));
        }
        Self {
            store,
            kinds,
            revision,
            applied: watch::Sender::new(0),
        }
    }

    /// The cache of the kind with this key prefix (with its slash).
    pub fn by_prefix(&self, prefix: &str) -> Option<&Arc<KindCache>> {
        self.kinds.get(prefix)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<KindCache>> {
        self.kinds.values()
    }

    /// Every change up to this revision is in the caches.
    pub fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// Waits until the caches hold everything that was written before this call.
    pub async fn catch_up(&self) -> Result<Revision, FeedError> {
        let revision = self.store.read_index().await?;
        self.wait_for(revision).await?;
        Ok(revision)
    }

    /// Waits until the caches have reached a revision.
    pub async fn wait_for(&self, wanted: Revision) -> Result<(), FeedError> {
        if self.revision() >= wanted {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        let reached =
            tokio::time::timeout(CATCH_UP_LIMIT, applied.wait_for(|r| *r >= wanted)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(FeedError::Behind {
                wanted,
                current: self.revision(),
            }),
        }
    }

    /// Loads everything and keeps it current until `stop`, or until the store is closed.
    pub async fn run(&self, stop: CancellationToken) {
        let mut position = None;
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.follow(&mut position) => outcome,
            };
            match outcome {
                Err(StoreError::Compacted { .. }) => position = None,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the watch on the store broke off and is started again")
                }
                Ok(()) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        }
    }

    async fn follow(&self, position: &mut Option<Revision>) -> Result<(), StoreError> {
        let mut at = match *position {
            Some(at) => at,
            None => self.load().await?,
        };
        *position = Some(at);
        let mut changes = self
            .store
            .watch(KeyRange::prefix(STORAGE_ROOT.as_bytes()), at + 1)
            .await?;
        loop {
            let batch = changes.next().await?;
            self.apply(batch.events);
            at = at.max(batch.revision);
            *position = Some(at);
            self.publish(at);
        }
    }

    fn publish(&self, revision: Revision) {
        self.revision.store(revision, Ordering::Release);
        self.applied.send_replace(revision);
    }

    async fn load(&self) -> Result<Revision, StoreError> {
        let newest = self.store.read_index().await?;
        let wanted = newest.saturating_sub(PREHISTORY_REVISIONS).max(1);
        let (at, entries) = match self.read_all(wanted).await {
            Err(StoreError::Compacted { compacted, .. }) => {
                let at = compacted.clamp(wanted, newest);
                (at, self.read_all(at).await?)
            }
            other => (wanted, other?),
        };
        let mut loaded: BTreeMap<&str, BTreeMap<Arc<str>, Arc<CachedObject>>> = BTreeMap::new();
        for entry in &entries {
            let Some((cache, key)) = self.owner(&entry.key) else {
                continue;
            };
            if let Some(object) = CachedObject::new(key.into(), entry) {
                loaded
                    .entry(&cache.prefix)
                    .or_default()
                    .insert(object.key.clone(), Arc::new(object));
            }
        }
        for (prefix, cache) in &self.kinds {
            cache.reset(loaded.remove(prefix.as_str()).unwrap_or_default(), at);
        }
        if at >= newest {
            self.publish(at);
        }
        Ok(at)
    }

    async fn read_all(&self, revision: Revision) -> Result<Vec<Entry>, StoreError> {
        let mut range = KeyRange::prefix(STORAGE_ROOT.as_bytes());
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let page = self
                .store
                .range(range.clone(), PAGE_ENTRIES, revision)
                .await?;
            entries.extend(page.entries);
            match entries.last() {
                Some(last) if page.more => {
                    range.start = Bytes::from([&last.key[..], b"\0"].concat())
                }
                _ => return Ok(entries),
            }
        }
    }

    /// The cache that a key belongs to, and the rest of the key.
    fn owner<'k>(&self, key: &'k [u8]) -> Option<(&Arc<KindCache>, &'k str)> {
        let key = std::str::from_utf8(key).ok()?;
        let below = (Bound::Unbounded, Bound::Included(key));
        let (prefix, cache) = self.kinds.range::<str, _>(below).next_back()?;
        Some((cache, key.strip_prefix(prefix.as_str())?))
    }

    fn apply(&self, events: Vec<StoreEvent>) {
        if let [event] = events.as_slice() {
            if let Some((cache, _)) = self.owner(&event.key) {
                cache.apply(&events);
            }
            return;
        }
        let mut by_kind: BTreeMap<String, Vec<StoreEvent>> = BTreeMap::new();
        for event in events {
            let Some((cache, _)) = self.owner(&event.key) else {
                continue;
            };
            by_kind.entry(cache.prefix.clone()).or_default().push(event);
        }
        for (prefix, events) in by_kind {
            self.kinds[&prefix].apply(&events);
        }
    }
}
