//! A change of the data key, in steps that may each be the last: a new key is put in front, every value that is not sealed
//! under it is written again, and only when none is left the old keys are marked as unused. Compaction of the history that
//! needs them drops them. Called again after it was interrupted, it goes on where it stopped.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::key_ring::KeyRing;
use super::sealed_store::SealedStore;
use super::sealing::parts;
use super::{EncryptionError, SEALED};
use crate::store::{Compare, Entry, KeyRange, Op, Revision, Store, Txn};

/// Entries that one read fetches.
const PAGE_ENTRIES: usize = 500;
/// Values that are written at the same time, so that the store can flush them together.
const CONCURRENT: usize = 16;

/// What `xebec secrets-encrypt status` shows.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EncryptionStatus {
    pub keys: Vec<KeyStatus>,
    /// Stored values by the name of the key that sealed them; under `identity` those that are plain.
    pub values: BTreeMap<String, usize>,
}

/// One key.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyStatus {
    pub name: String,
    /// `Active`: seals. `Opening`: values may still be sealed under it. `History`: only old revisions need it.
    pub state: &'static str,
}

impl SealedStore {
    /// # Errors
    /// When the store does not answer.
    pub async fn status(&self) -> Result<EncryptionStatus, EncryptionError> {
        let ring = self.refresh().await?;
        let at = self.inner().read_index().await?;
        let mut values = BTreeMap::new();
        for prefix in SEALED {
            let mut pages = Pages::new(prefix, at);
            while let Some(page) = pages.next(self).await? {
                for entry in page {
                    let name = match parts(&entry.value) {
                        Ok(Some((name, _))) => name,
                        Ok(None) => "identity",
                        Err(_) => "unknown",
                    };
                    *values.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
        let state = |at: usize, unused: bool| match (at, unused) {
            (0, _) => "Active",
            (_, false) => "Opening",
            (_, true) => "History",
        };
        let keys = ring.keys.iter().enumerate().map(|(at, k)| KeyStatus {
            name: k.key.name.clone(),
            state: state(at, k.unused_since.is_some()),
        });
        Ok(EncryptionStatus {
            keys: keys.collect(),
            values,
        })
    }

    /// Changes the data key and writes every sealed value again. Ends an interrupted change instead, where there is one.
    ///
    /// # Errors
    /// When the store fails on the way: everything stays readable, and calling again goes on.
    pub async fn rotate(&self) -> Result<EncryptionStatus, EncryptionError> {
        let _one = self.rotating().lock().await;
        let mut ring = self.refresh().await?;
        if !ring.is_rotating() {
            // Another master may have been faster; then this one helps.
            self.replace_ring(ring.with_new_key()).await?;
            ring = self.refresh().await?;
        }
        let unused_since = self.rewrite(&ring).await?;
        // If the ring is another one by now, a further change is under way and cares for these keys too.
        self.replace_ring(ring.with_old_keys_unused(unused_since))
            .await?;
        self.status().await
    }

    /// Writes again what is not sealed under the ring's first key. Answers a revision at which everything is.
    async fn rewrite(&self, ring: &KeyRing) -> Result<Revision, EncryptionError> {
        // Whatever is written after this revision is bound to this ring, or a newer one.
        let at = self.inner().read_index().await?;
        self.each_old(ring, at, |entry| self.write_again(entry))
            .await?;
        let done = self.inner().read_index().await?;
        let left = self.each_old(ring, done, |_| async { Ok(()) }).await?;
        match left {
            0 => Ok(done),
            left => Err(EncryptionError::NotRewritten(left)),
        }
    }

    /// Runs `work` on the entries of a revision that the ring would seal otherwise; answers how many there were.
    async fn each_old<W, F>(
        &self,
        ring: &KeyRing,
        at: Revision,
        work: W,
    ) -> Result<usize, EncryptionError>
    where
        W: Fn(Entry) -> F,
        F: Future<Output = Result<(), EncryptionError>>,
    {
        let mut count = 0;
        for prefix in SEALED {
            let mut pages = Pages::new(prefix, at);
            while let Some(mut page) = pages.next(self).await? {
                page.retain(|entry| !ring.is_current(&entry.value));
                count += page.len();
                futures::stream::iter(page)
                    .map(&work)
                    .buffer_unordered(CONCURRENT)
                    .try_collect::<()>()
                    .await?;
            }
        }
        Ok(count)
    }

    /// Unless somebody else has written it since: then it is sealed under the new key already.
    async fn write_again(&self, entry: Entry) -> Result<(), EncryptionError> {
        let plain = match self.ring().open(&entry.key, &entry.value) {
            Ok(plain) => plain,
            Err(error) => {
                let key = String::from_utf8_lossy(&entry.key);
                return Err(EncryptionError::Ring(format!("{key}: {error}")));
            }
        };
        let txn = Txn {
            compares: vec![Compare::ModRevision {
                key: entry.key.clone(),
                revision: entry.mod_revision,
            }],
            then: vec![Op::Put {
                key: entry.key,
                value: plain,
                lease: entry.lease,
            }],
            ..Txn::default()
        };
        self.txn(txn).await?;
        Ok(())
    }
}

/// Sealed entries as they lie in the store, page by page, all at one revision.
struct Pages {
    range: Option<KeyRange>,
    at: Revision,
}

impl Pages {
    fn new(prefix: &str, at: Revision) -> Self {
        Self {
            range: Some(KeyRange::prefix(prefix.as_bytes())),
            at,
        }
    }

    async fn next(&mut self, store: &SealedStore) -> Result<Option<Vec<Entry>>, EncryptionError> {
        let Some(mut range) = self.range.take() else {
            return Ok(None);
        };
        let inner = store.inner();
        let page = inner.range(range.clone(), PAGE_ENTRIES, self.at).await?;
        if let (true, Some(last)) = (page.more, page.entries.last()) {
            range.start = Bytes::from([&last.key[..], b"\0"].concat());
            self.range = Some(range);
        }
        Ok(Some(page.entries))
    }
}
