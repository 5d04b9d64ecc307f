//! A store in memory, for tests and benchmarks of what lies above the store.
//!
//! Keeps full history until it is compacted and answers as a one-member store would, but forgets all when dropped. It is
//! no cache and no part of a served cluster.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{
    Compare, Entry, KeyRange, Op, RangeResult, Revision, Store, StoreError, StoreEvent, StoreWatch,
    Txn, TxnResult, WatchBatch,
};

/// The state of a key from one revision on; none after a delete.
#[derive(Clone)]
struct Version {
    revision: Revision,
    entry: Option<Entry>,
}

struct Inner {
    revision: Revision,
    compacted: Revision,
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// All changes after `compacted`, in order.
    log: VecDeque<StoreEvent>,
    leases: HashMap<i64, Vec<Bytes>>,
    next_lease: i64,
}

/// A revisioned map in memory.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    applied: Arc<watch::Sender<Revision>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let inner = Inner {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            leases: HashMap::new(),
            next_lease: 1,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            applied: Arc::new(watch::Sender::new(1)),
        }
    }
}

impl Inner {
    fn current(&self, key: &[u8]) -> Option<&Entry> {
        self.keys.get(key)?.last()?.entry.as_ref()
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::ModRevision { key, revision } => {
                self.current(key).map_or(0, |e| e.mod_revision) == *revision
            }
            Compare::CreateRevision { key, revision } => {
                self.current(key).map_or(0, |e| e.create_revision) == *revision
            }
        }
    }

    fn put(&mut self, revision: Revision, key: Bytes, value: Bytes, lease: i64) {
        let previous = self.current(&key).cloned();
        let create_revision = previous.as_ref().map_or(revision, |p| p.create_revision);
        let entry = Entry {
            key: key.clone(),
            value,
            create_revision,
            mod_revision: revision,
            lease,
        };
        if lease != 0 {
            self.leases.entry(lease).or_default().push(key.clone());
        }
        self.record(StoreEvent {
            key,
            revision,
            current: Some(entry),
            previous,
        });
    }

    /// Whether there was anything to delete.
    fn delete(&mut self, revision: Revision, key: Bytes) -> bool {
        let Some(previous) = self.current(&key).cloned() else {
            return false;
        };
        self.record(StoreEvent {
            key,
            revision,
            current: None,
            previous: Some(previous),
        });
        true
    }

    fn record(&mut self, event: StoreEvent) {
        let version = Version {
            revision: event.revision,
            entry: event.current.clone(),
        };
        self.keys
            .entry(event.key.clone())
            .or_default()
            .push(version);
        self.log.push_back(event);
    }

    fn run(&mut self, ops: Vec<Op>) -> Vec<Option<Entry>> {
        let next = self.revision + 1;
        let mut gets = Vec::new();
        for op in ops {
            match op {
                Op::Get { key } => gets.push(self.current(&key).cloned()),
                Op::Put { key, value, lease } => {
                    self.put(next, key, value, lease);
                    self.revision = next;
                }
                Op::Delete { key } => {
                    if self.delete(next, key) {
                        self.revision = next;
                    }
                }
            }
        }
        gets
    }

    fn range(&self, range: &KeyRange, limit: usize, at: Revision) -> RangeResult {
        let mut result = RangeResult {
            revision: self.revision,
            ..RangeResult::default()
        };
        let bounds = (
            Bound::Included(range.start.clone()),
            Bound::Excluded(range.end.clone()),
        );
        for versions in self.keys.range(bounds).map(|(_, v)| v) {
            let version = versions.iter().rev().find(|v| v.revision <= at);
            let Some(entry) = version.and_then(|v| v.entry.as_ref()) else {
                continue;
            };
            result.count += 1;
            if limit == 0 || result.entries.len() < limit {
                result.entries.push(entry.clone());
            }
        }
        result.more = result.count > result.entries.len() as u64;
        result
    }
}

fn expire_later(
    inner: Weak<Mutex<Inner>>,
    applied: Weak<watch::Sender<Revision>>,
    lease: i64,
    ttl: Duration,
) {
    tokio::spawn(async move {
        tokio::time::sleep(ttl).await;
        let (Some(inner), Some(applied)) = (inner.upgrade(), applied.upgrade()) else {
            return;
        };
        let mut inner = inner.lock();
        let keys = inner.leases.remove(&lease).unwrap_or_default();
        let still_attached = |key: &Bytes| inner.current(key).is_some_and(|e| e.lease == lease);
        let ops = keys
            .into_iter()
            .filter(still_attached)
            .map(|key| Op::Delete { key })
            .collect();
        inner.run(ops);
        applied.send_replace(inner.revision);
    });
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &[u8]) -> Result<(Option<Entry>, Revision), StoreError> {
        let inner = self.inner.lock();
        Ok((inner.current(key).cloned(), inner.revision))
    }

    async fn range(
        &self,
        range: KeyRange,
        limit: usize,
        revision: Revision,
    ) -> Result<RangeResult, StoreError> {
        let inner = self.inner.lock();
        if revision > inner.revision {
            return Err(StoreError::FutureRevision(revision));
        }
        if revision != 0 && revision < inner.compacted {
            return Err(StoreError::Compacted {
                requested: revision,
                compacted: inner.compacted,
            });
        }
        let at = if revision == 0 {
            inner.revision
        } else {
            revision
        };
        Ok(inner.range(&range, limit, at))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let mut inner = self.inner.lock();
        let succeeded = txn.compares.iter().all(|c| inner.holds(c));
        let gets = inner.run(if succeeded { txn.then } else { txn.otherwise });
        self.applied.send_replace(inner.revision);
        Ok(TxnResult {
            succeeded,
            revision: inner.revision,
            gets,
        })
    }

    async fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> Result<Box<dyn StoreWatch>, StoreError> {
        let applied = self.applied.subscribe();
        Ok(Box::new(MemoryWatch {
            inner: self.inner.clone(),
            applied,
            range,
            next: from,
        }))
    }

    async fn read_index(&self) -> Result<Revision, StoreError> {
        Ok(self.inner.lock().revision)
    }

    fn applied(&self) -> watch::Receiver<Revision> {
        self.applied.subscribe()
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if revision > inner.revision {
            return Err(StoreError::FutureRevision(revision));
        }
        inner.compacted = inner.compacted.max(revision);
        inner.log.retain(|e| e.revision >= revision);
        inner.keys.retain(|_, versions| {
            let keep_from = versions
                .iter()
                .rposition(|v| v.revision <= revision)
                .unwrap_or(0);
            versions.drain(..keep_from);
            versions.len() > 1
                || versions
                    .iter()
                    .any(|v| v.entry.is_some() || v.revision > revision)
        });
        Ok(())
    }

    async fn lease_grant(&self, ttl_seconds: i64) -> Result<i64, StoreError> {
        let mut inner = self.inner.lock();
        let lease = inner.next_lease;
        inner.next_lease += 1;
        inner.leases.insert(lease, Vec::new());
        let ttl = Duration::from_secs(ttl_seconds.max(1).unsigned_abs());
        expire_later(
            Arc::downgrade(&self.inner),
            Arc::downgrade(&self.applied),
            lease,
            ttl,
        );
        Ok(lease)
    }
}

struct MemoryWatch {
    inner: Arc<Mutex<Inner>>,
    applied: watch::Receiver<Revision>,
    range: KeyRange,
    next: Revision,
}

#[async_trait]
impl StoreWatch for MemoryWatch {
    async fn next(&mut self) -> Result<WatchBatch, StoreError> {
        loop {
            self.applied.borrow_and_update();
            if let Some(batch) = self.ready()? {
                return Ok(batch);
            }
            if self.applied.changed().await.is_err() {
                return Err(StoreError::Closed);
            }
        }
    }
}

impl MemoryWatch {
    fn ready(&mut self) -> Result<Option<WatchBatch>, StoreError> {
        let inner = self.inner.lock();
        if self.next < inner.compacted {
            return Err(StoreError::Compacted {
                requested: self.next,
                compacted: inner.compacted,
            });
        }
        if self.next > inner.revision {
            return Ok(None);
        }
        let first = inner.log.partition_point(|e| e.revision < self.next);
        let in_range = |e: &&StoreEvent| e.key >= self.range.start && e.key < self.range.end;
        let events = inner.log.range(first..).filter(in_range).cloned().collect();
        self.next = inner.revision + 1;
        Ok(Some(WatchBatch {
            events,
            revision: inner.revision,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Op {
        Op::Put {
            key: key.into(),
            value: value.into(),
            lease: 0,
        }
    }

    #[tokio::test]
    async fn history_can_be_read_and_watched_until_compacted() {
        let store = MemoryStore::default();
        for value in ["1", "2", "3"] {
            store
                .txn(Txn {
                    then: vec![put("/a", value)],
                    ..Txn::default()
                })
                .await
                .expect("put");
        }
        let old = store
            .range(KeyRange::prefix(b"/"), 0, 3)
            .await
            .expect("range");
        assert_eq!(old.entries[0].value, "2");
        let mut watch = store.watch(KeyRange::prefix(b"/"), 3).await.expect("watch");
        let batch = watch.next().await.expect("batch");
        let seen: Vec<_> = batch
            .events
            .iter()
            .map(|e| e.current.as_ref().expect("put").value.clone())
            .collect();
        assert_eq!(
            (seen, batch.revision),
            (vec![Bytes::from("2"), Bytes::from("3")], 4)
        );
        store.compact(4).await.expect("compact");
        assert!(matches!(
            store.range(KeyRange::prefix(b"/"), 0, 3).await,
            Err(StoreError::Compacted {
                requested: 3,
                compacted: 4
            })
        ));
        assert_eq!(
            store
                .range(KeyRange::prefix(b"/"), 0, 4)
                .await
                .expect("range")
                .entries
                .len(),
            1
        );
    }

    #[tokio::test]
    async fn a_failed_compare_runs_the_other_branch() {
        let store = MemoryStore::default();
        let create = || Txn {
            compares: vec![Compare::ModRevision {
                key: "/a".into(),
                revision: 0,
            }],
            then: vec![put("/a", "x")],
            otherwise: vec![Op::Get { key: "/a".into() }],
            fence: None,
        };
        assert!(store.txn(create()).await.expect("txn").succeeded);
        let second = store.txn(create()).await.expect("txn");
        assert!(!second.succeeded && second.gets[0].is_some() && second.revision == 2);
    }
}
