//! The embedded datastore, behind the trait that the control plane knows. Translation only.

use api_server::{
    Compare, Entry, KeyRange, Op, RangeResult, Revision, Store, StoreError, StoreEvent, StoreWatch,
    Txn, TxnResult, WatchBatch,
};
use async_trait::async_trait;
use bytes::Bytes;
use raft_store as store;
use tokio::sync::watch;

/// A member of the embedded store as the control plane's datastore.
pub struct EmbeddedStore {
    store: store::Store,
    applied: watch::Receiver<Revision>,
}

impl EmbeddedStore {
    pub fn new(store: store::Store) -> Self {
        let mut source = store.applied();
        let (sender, applied) = watch::channel(revision(*source.borrow_and_update()));
        tokio::spawn(async move {
            while source.changed().await.is_ok() {
                if sender.send(revision(*source.borrow_and_update())).is_err() {
                    return;
                }
            }
        });
        Self { store, applied }
    }
}

/// The fence of a leader: the Raft term that it was elected in.
pub fn fence_of_term(term: u64) -> Bytes {
    Bytes::copy_from_slice(&term.to_be_bytes())
}

fn parse_fence(fence: &[u8]) -> Result<store::Fence, StoreError> {
    let term = fence
        .try_into()
        .map_err(|_| StoreError::Internal("a fence of an unknown form".into()))?;
    Ok(store::Fence::term(u64::from_be_bytes(term)))
}

/// The store counts in i64 as etcd does; its revisions are never negative.
fn revision(revision: i64) -> Revision {
    revision.max(0) as Revision
}

fn to_signed(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn range(range: KeyRange) -> store::KeyRange {
    if range.end.is_empty() {
        store::KeyRange {
            key: range.start,
            end: store::RangeEnd::Unbounded,
        }
    } else {
        store::KeyRange::span(range.start, range.end)
    }
}

fn entry(kv: store::KeyValue) -> Entry {
    Entry {
        key: kv.key,
        value: kv.value,
        create_revision: revision(kv.create_revision),
        mod_revision: revision(kv.mod_revision),
        lease: kv.lease,
    }
}

fn compare(compare: Compare) -> store::Compare {
    let (key, target) = match compare {
        Compare::ModRevision { key, revision } => {
            (key, store::CompareTarget::ModRevision(to_signed(revision)))
        }
        Compare::CreateRevision { key, revision } => (
            key,
            store::CompareTarget::CreateRevision(to_signed(revision)),
        ),
    };
    store::Compare {
        range: store::KeyRange::single(key),
        op: store::CompareOp::Equal,
        target,
    }
}

fn operation(op: Op) -> store::RequestOp {
    match op {
        Op::Get { key } => store::RequestOp::Range(store::RangeRequest {
            range: store::KeyRange::single(key),
            ..Default::default()
        }),
        Op::Put { key, value, lease } => store::RequestOp::Put(store::PutRequest {
            key,
            value,
            lease,
            ..Default::default()
        }),
        Op::Delete { key } => store::RequestOp::DeleteRange(store::DeleteRangeRequest {
            range: store::KeyRange::single(key),
            prev_kv: false,
        }),
    }
}

fn error(error: store::Error) -> StoreError {
    use store::Error;
    match error {
        Error::Compacted { compact_revision } => StoreError::Compacted {
            requested: 0,
            compacted: revision(compact_revision),
        },
        Error::FutureRevision { revision: asked } => StoreError::FutureRevision(revision(asked)),
        Error::Fenced => StoreError::Fenced,
        Error::RequestTooLarge => StoreError::TooLarge(0),
        Error::NoSpace => StoreError::NoSpace,
        Error::OutcomeUnknown(why) => StoreError::Unknown(why),
        error @ (Error::TimeoutLeaderFailed | Error::TimeoutConnectionLost) => {
            StoreError::Unknown(error.to_string())
        }
        error @ (Error::NoLeader
        | Error::LeaderChanged
        | Error::NotLeader { .. }
        | Error::Timeout
        | Error::TimeoutApplied
        | Error::MemberRemoved
        | Error::TooManyRequests) => StoreError::Unavailable(error.to_string()),
        Error::Stopped => StoreError::Closed,
        error => StoreError::Internal(error.to_string()),
    }
}

fn event(event: &store::Event) -> StoreEvent {
    StoreEvent {
        key: event.kv.key.clone(),
        revision: revision(event.kv.mod_revision),
        current: (event.kind == store::EventKind::Put).then(|| entry(event.kv.clone())),
        previous: event.prev_kv.clone().map(entry),
    }
}

struct EmbeddedWatch(store::Watcher);

#[async_trait]
impl StoreWatch for EmbeddedWatch {
    async fn next(&mut self) -> Result<WatchBatch, StoreError> {
        match self.0.next().await {
            Ok(batch) => Ok(WatchBatch {
                events: batch.events.iter().map(|e| event(e)).collect(),
                revision: revision(batch.revision),
            }),
            Err(store::WatchError::Compacted { compact_revision }) => Err(StoreError::Compacted {
                requested: 0,
                compacted: revision(compact_revision),
            }),
            Err(store::WatchError::Closed) => Err(StoreError::Closed),
            Err(store::WatchError::Storage(why)) => Err(StoreError::Internal(why)),
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &[u8]) -> Result<(Option<Entry>, Revision), StoreError> {
        let range = store::KeyRange::single(Bytes::copy_from_slice(key));
        let answer = self
            .store
            .range(store::RangeRequest {
                range,
                ..Default::default()
            })
            .await
            .map_err(error)?;
        Ok((
            answer.kvs.into_iter().next().map(entry),
            revision(answer.revision),
        ))
    }

    async fn range(
        &self,
        keys: KeyRange,
        limit: usize,
        at: Revision,
    ) -> Result<RangeResult, StoreError> {
        let request = store::RangeRequest {
            range: range(keys),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            revision: to_signed(at),
            ..Default::default()
        };
        let answer = self.store.range(request).await.map_err(error)?;
        Ok(RangeResult {
            entries: answer.kvs.into_iter().map(entry).collect(),
            more: answer.more,
            count: u64::try_from(answer.count).unwrap_or(0),
            revision: revision(answer.revision),
        })
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let request = store::TxnRequest {
            compare: txn.compares.into_iter().map(compare).collect(),
            success: txn.then.into_iter().map(operation).collect(),
            failure: txn.otherwise.into_iter().map(operation).collect(),
            fence: txn.fence.as_deref().map(parse_fence).transpose()?,
        };
        let answer = self.store.txn(request).await.map_err(error)?;
        let gets = answer
            .responses
            .into_iter()
            .filter_map(|response| match response {
                store::ResponseOp::Range(found) => Some(found.kvs.into_iter().next().map(entry)),
                _ => None,
            });
        Ok(TxnResult {
            succeeded: answer.succeeded,
            revision: revision(answer.revision),
            gets: gets.collect(),
        })
    }

    async fn watch(
        &self,
        keys: KeyRange,
        from: Revision,
    ) -> Result<Box<dyn StoreWatch>, StoreError> {
        let request = store::WatchRequest {
            range: range(keys),
            start_revision: to_signed(from),
            prev_kv: true,
            progress: true,
            ..Default::default()
        };
        Ok(Box::new(EmbeddedWatch(
            self.store.watch(request).map_err(error)?,
        )))
    }

    async fn read_index(&self) -> Result<Revision, StoreError> {
        self.store.read_index().await.map(revision).map_err(error)
    }

    fn applied(&self) -> watch::Receiver<Revision> {
        self.applied.clone()
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.store
            .compact(to_signed(at), false)
            .await
            .map(drop)
            .map_err(error)
    }

    async fn lease_grant(&self, ttl_seconds: i64) -> Result<i64, StoreError> {
        let request = store::LeaseGrantRequest {
            id: 0,
            ttl: ttl_seconds,
        };
        self.store
            .lease_grant(request)
            .await
            .map(|lease| lease.id)
            .map_err(error)
    }
}
