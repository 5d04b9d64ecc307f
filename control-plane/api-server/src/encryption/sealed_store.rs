//! A [`Store`] that seals and opens the values of some keys on their way, and passes everything else by.
//!
//! Every write of a sealed value also requires that the ring is still the one that sealed it: a key that was taken out of
//! use is never used again, on no master, however late the master hears of it. A key that is not known is looked up in the
//! store before a read fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::key_ring::KeyRing;
use super::ring_file::RingError;
use super::sealing::OpenError;
use super::{EncryptionError, RING_KEY, is_sealed, ring_file, root};
use crate::store::{
    Compare, Entry, KeyRange, Op, RangeResult, Revision, Store, StoreError, StoreWatch, Txn,
    TxnResult, WatchBatch,
};

/// How often a write is tried whose ring changes under it; a ring changes a few times in a year.
const RING_CHANGES_LIMIT: usize = 8;

/// See the module's documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SealedStore(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    root_path: PathBuf,
    ring: ArcSwap<KeyRing>,
    /// One rotation at a time in this process; others are kept out by the store.
    rotating: tokio::sync::Mutex<()>,
}

impl SealedStore {
    /// Reads the ring of the store, or makes it with the root key's file where there is none yet.
    ///
    /// # Errors
    /// When the root key is missing or another one, or the store does not answer.
    pub async fn open(store: Arc<dyn Store>, root_path: &Path) -> Result<Self, EncryptionError> {
        let ring = match store.get(RING_KEY.as_bytes()).await?.0 {
            Some(entry) => decode(&entry, root_path)?,
            None => found(store.as_ref(), root_path).await?,
        };
        Ok(Self(Arc::new(Shared {
            store,
            root_path: root_path.to_owned(),
            ring: ArcSwap::from_pointee(ring),
            rotating: tokio::sync::Mutex::default(),
        })))
    }

    pub(super) fn inner(&self) -> &dyn Store {
        self.0.store.as_ref()
    }

    pub(super) fn rotating(&self) -> &tokio::sync::Mutex<()> {
        &self.0.rotating
    }

    pub(super) fn ring(&self) -> Arc<KeyRing> {
        self.0.ring.load_full()
    }

    /// The ring as the store holds it now.
    pub(super) async fn refresh(&self) -> Result<KeyRing, EncryptionError> {
        let entry = self.inner().get(RING_KEY.as_bytes()).await?.0;
        let entry = entry.ok_or_else(|| EncryptionError::Ring("they were deleted".into()))?;
        self.adopt(&entry)?;
        decode(&entry, &self.0.root_path)
    }

    fn adopt(&self, entry: &Entry) -> Result<(), EncryptionError> {
        let ring = Arc::new(decode(entry, &self.0.root_path)?);
        // Answers may come in another order than they were asked for.
        self.0.ring.rcu(|held| match held.revision < ring.revision {
            true => ring.clone(),
            false => held.clone(),
        });
        Ok(())
    }

    /// Puts the ring that follows on the one at `ring.revision`. Answers whether that was still the ring.
    pub(super) async fn replace_ring(&self, ring: KeyRing) -> Result<bool, EncryptionError> {
        let roots = roots(&self.0.root_path)?;
        let replaced = put_ring(self.inner(), &ring, &roots).await?;
        self.refresh().await?;
        Ok(replaced)
    }

    /// Opens an entry in place. One that cannot be opened stays as it is: nobody will read it as an object.
    async fn open_entry(&self, entry: &mut Entry) -> Result<(), StoreError> {
        if !is_sealed(&entry.key) {
            return Ok(());
        }
        let mut outcome = self.ring().open(&entry.key, &entry.value);
        if matches!(outcome, Err(OpenError::UnknownKey(_))) {
            self.refresh().await.map_err(internal)?;
            outcome = self.ring().open(&entry.key, &entry.value);
        }
        let key = String::from_utf8_lossy(&entry.key);
        match outcome {
            Ok(plain) => entry.value = plain,
            // Whoever restores the key gets the value back: nothing may take it for absent.
            Err(error @ OpenError::UnknownKey(_)) => {
                return Err(StoreError::Internal(format!("{key}: {error}")));
            }
            Err(error) => tracing::error!(%key, %error, "a stored value cannot be decrypted"),
        }
        Ok(())
    }

    async fn open_gets(&self, result: &mut TxnResult) -> Result<(), StoreError> {
        for entry in result.gets.iter_mut().flatten() {
            self.open_entry(entry).await?;
        }
        Ok(())
    }

    /// The same transaction with sealed values, bound to the ring that sealed them.
    fn seal(&self, txn: &Txn) -> (Txn, Revision) {
        let ring = self.ring();
        let mut sealed = txn.clone();
        for op in &mut sealed.then {
            if let Op::Put { key, value, .. } = op
                && is_sealed(key)
            {
                *value = ring.sealing().seal(key, value);
            }
        }
        sealed.compares.push(Compare::ModRevision {
            key: Bytes::from_static(RING_KEY.as_bytes()),
            revision: ring.revision,
        });
        sealed.otherwise.push(Op::Get {
            key: Bytes::from_static(RING_KEY.as_bytes()),
        });
        (sealed, ring.revision)
    }

    async fn sealed_txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let reads = |op: &Op| matches!(op, Op::Get { .. });
        if !txn.otherwise.iter().all(reads) {
            let why = "the other branch of a transaction on sealed values must only read";
            return Err(StoreError::Internal(why.into()));
        }
        for _ in 0..RING_CHANGES_LIMIT {
            let (sealed, ring_revision) = self.seal(&txn);
            let mut result = self.inner().txn(sealed).await?;
            if !result.succeeded {
                let ring = result.gets.pop().flatten();
                let ring = ring
                    .ok_or_else(|| StoreError::Internal("the encryption keys are gone".into()))?;
                if ring.mod_revision != ring_revision {
                    self.adopt(&ring).map_err(internal)?;
                    continue;
                }
            }
            self.open_gets(&mut result).await?;
            return Ok(result);
        }
        let why = "the encryption keys change all the time";
        Err(StoreError::Unavailable(why.into()))
    }

    /// Drops the keys that only forgotten history needed.
    async fn forget_keys(&self, revision: Revision) -> Result<(), EncryptionError> {
        let unused = |ring: &KeyRing| ring.keys.iter().any(|k| k.unused_since.is_some());
        if !unused(&self.ring()) {
            return Ok(());
        }
        if let Some(ring) = self.refresh().await?.without_history_before(revision) {
            self.replace_ring(ring).await?;
        }
        Ok(())
    }
}

fn internal(error: EncryptionError) -> StoreError {
    match error {
        EncryptionError::Store(error) => error,
        other => StoreError::Internal(other.to_string()),
    }
}

fn roots(path: &Path) -> Result<Vec<super::sealing::SealingKey>, EncryptionError> {
    root::read(path)?.ok_or_else(|| EncryptionError::RootMissing {
        path: path.to_owned(),
    })
}

fn decode(entry: &Entry, root_path: &Path) -> Result<KeyRing, EncryptionError> {
    ring_file::decode(entry, &roots(root_path)?).map_err(|error| match error {
        RingError::Sealed(error) => EncryptionError::OtherRoot {
            path: root_path.to_owned(),
            reason: error.to_string(),
        },
        RingError::Content(reason) => EncryptionError::Ring(reason),
    })
}

/// The first ring of a store; that of another master, if it is faster.
async fn found(store: &dyn Store, root_path: &Path) -> Result<KeyRing, EncryptionError> {
    let roots = match root::read(root_path)? {
        Some(roots) => roots,
        None => root::create(root_path)?,
    };
    put_ring(store, &KeyRing::first(), &roots).await?;
    let entry = store.get(RING_KEY.as_bytes()).await?.0;
    let entry = entry.ok_or_else(|| EncryptionError::Ring("they were deleted".into()))?;
    decode(&entry, root_path)
}

async fn put_ring(
    store: &dyn Store,
    ring: &KeyRing,
    roots: &[super::sealing::SealingKey],
) -> Result<bool, EncryptionError> {
    let key = Bytes::from_static(RING_KEY.as_bytes());
    let txn = Txn {
        compares: vec![Compare::ModRevision {
            key: key.clone(),
            revision: ring.revision,
        }],
        then: vec![Op::Put {
            key,
            value: ring_file::encode(ring, roots),
            lease: 0,
        }],
        ..Txn::default()
    };
    Ok(store.txn(txn).await?.succeeded)
}

#[async_trait]
impl Store for SealedStore {
    async fn get(&self, key: &[u8]) -> Result<(Option<Entry>, Revision), StoreError> {
        let (mut entry, revision) = self.inner().get(key).await?;
        if let Some(entry) = &mut entry {
            self.open_entry(entry).await?;
        }
        Ok((entry, revision))
    }

    async fn range(
        &self,
        range: KeyRange,
        limit: usize,
        revision: Revision,
    ) -> Result<RangeResult, StoreError> {
        let mut result = self.inner().range(range, limit, revision).await?;
        for entry in &mut result.entries {
            self.open_entry(entry).await?;
        }
        Ok(result)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let seals = |op: &Op| matches!(op, Op::Put { key, .. } if is_sealed(key));
        if txn.then.iter().chain(&txn.otherwise).any(seals) {
            return self.sealed_txn(txn).await;
        }
        let mut result = self.inner().txn(txn).await?;
        self.open_gets(&mut result).await?;
        Ok(result)
    }

    async fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> Result<Box<dyn StoreWatch>, StoreError> {
        let watch = self.inner().watch(range, from).await?;
        Ok(Box::new(OpenedWatch {
            watch,
            store: self.clone(),
        }))
    }

    async fn read_index(&self) -> Result<Revision, StoreError> {
        self.inner().read_index().await
    }

    fn applied(&self) -> watch::Receiver<Revision> {
        self.inner().applied()
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner().compact(revision).await?;
        self.forget_keys(revision).await.map_err(internal)
    }

    async fn lease_grant(&self, ttl_seconds: i64) -> Result<i64, StoreError> {
        self.inner().lease_grant(ttl_seconds).await
    }
}

struct OpenedWatch {
    watch: Box<dyn StoreWatch>,
    store: SealedStore,
}

#[async_trait]
impl StoreWatch for OpenedWatch {
    async fn next(&mut self) -> Result<WatchBatch, StoreError> {
        let mut batch = self.watch.next().await?;
        for event in batch.events.iter_mut().filter(|e| is_sealed(&e.key)) {
            for entry in [&mut event.current, &mut event.previous]
                .into_iter()
                .flatten()
            {
                self.store.open_entry(entry).await?;
            }
        }
        Ok(batch)
    }
}
