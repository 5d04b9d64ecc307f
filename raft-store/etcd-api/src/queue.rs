//! Waiting in line by keys, as etcd's locks and elections do: each who waits has a key under one prefix, the oldest is first.

use raft_store as store;
use store::{Compare, CompareOp, CompareTarget, KeyRange, KeyValue, RequestOp, ResponseOp};
use tonic::Status;

use crate::front::Front;

/// A place in line.
pub(crate) struct Place {
    pub key: Vec<u8>,
    /// The create revision of its key: who came earlier has a smaller one.
    pub revision: i64,
    /// What the store's revision was when the place was taken or found.
    pub header_revision: i64,
    /// The key as it is, if it was there already.
    pub found: Option<KeyValue>,
}

/// As etcd's own client inside it loses the code of an error, and keeps its words.
pub(crate) fn status(error: store::Error) -> Status {
    match error.code() {
        store::Code::Unavailable => crate::error::status(error),
        _ => Status::unknown(error.to_string()),
    }
}

/// Seconds that a lease lives which nobody named, as in etcd's clients.
const SESSION_TTL_SECONDS: i64 = 60;

impl Front {
    /// The lease itself, or a new one where none was named.
    pub(crate) async fn session(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = store::LeaseGrantRequest {
            id: 0,
            ttl: SESSION_TTL_SECONDS,
        };
        let granted = self.store.lease_grant(request).await.map_err(status)?;
        Ok(granted.id)
    }

    /// Takes a place in line for this lease, or finds the one it has.
    pub(crate) async fn enqueue(
        &self,
        prefix: &[u8],
        lease: i64,
        value: bytes::Bytes,
    ) -> Result<Place, Status> {
        let mut key = prefix.to_vec();
        key.extend(hex_of(lease).into_bytes());
        let put = store::PutRequest {
            key: key.clone().into(),
            value,
            lease,
            ..Default::default()
        };
        let get = store::RangeRequest {
            range: KeyRange::single(key.clone()),
            ..Default::default()
        };
        let answer = self
            .store
            .txn(store::TxnRequest {
                compare: vec![created_at(&key, 0)],
                success: vec![RequestOp::Put(put)],
                failure: vec![RequestOp::Range(get)],
                fence: None,
            })
            .await
            .map_err(status)?;
        let found = match answer.responses.into_iter().next() {
            Some(ResponseOp::Range(found)) => found.kvs.into_iter().next(),
            _ => None,
        };
        let revision = found
            .as_ref()
            .map_or(answer.revision, |kv| kv.create_revision);
        Ok(Place {
            key,
            revision,
            header_revision: answer.revision,
            found,
        })
    }

    /// The one who came last of those who came before, with the revision of this look.
    async fn before(
        &self,
        prefix: &[u8],
        revision: i64,
    ) -> Result<(Option<KeyValue>, i64), Status> {
        let request = store::RangeRequest {
            range: KeyRange::prefix(prefix.to_vec()),
            limit: 1,
            sort_target: store::SortTarget::CreateRevision,
            sort_order: store::SortOrder::Descend,
            max_create_revision: revision - 1,
            ..Default::default()
        };
        let answer = self.store.range(request).await.map_err(status)?;
        Ok((answer.kvs.into_iter().next(), answer.revision))
    }

    /// Waits until everyone who came before `revision` is gone.
    pub(crate) async fn wait_first(&self, prefix: &[u8], revision: i64) -> Result<(), Status> {
        loop {
            let (Some(previous), seen) = self.before(prefix, revision).await? else {
                return Ok(());
            };
            let request = store::WatchRequest {
                range: KeyRange::single(previous.key),
                start_revision: seen + 1,
                no_put: true,
                ..Default::default()
            };
            let mut watcher = self.store.watch(request).map_err(status)?;
            tokio::select! {
                gone = watcher.next() => drop(gone.map_err(|error| Status::unavailable(error.to_string()))?),
                () = self.shutdown.cancelled() => return Err(status(store::Error::Stopped)),
            }
        }
    }

    /// The first in line.
    pub(crate) async fn first(&self, prefix: &[u8]) -> Result<(Option<KeyValue>, i64), Status> {
        let request = store::RangeRequest {
            range: KeyRange::prefix(prefix.to_vec()),
            limit: 1,
            sort_target: store::SortTarget::CreateRevision,
            sort_order: store::SortOrder::Ascend,
            ..Default::default()
        };
        let answer = self.store.range(request).await.map_err(status)?;
        Ok((answer.kvs.into_iter().next(), answer.revision))
    }

    /// Removes a key whatever it is.
    pub(crate) async fn leave(&self, key: impl Into<bytes::Bytes>) -> Result<i64, Status> {
        let request = store::DeleteRangeRequest {
            range: KeyRange::single(key),
            prev_kv: false,
        };
        let answer = self.store.delete_range(request).await.map_err(status)?;
        Ok(answer.revision)
    }
}

/// That a key lives since this revision; 0 = that it does not exist.
pub(crate) fn created_at(key: &[u8], revision: i64) -> Compare {
    Compare {
        range: KeyRange::single(key.to_vec()),
        op: CompareOp::Equal,
        target: CompareTarget::CreateRevision(revision),
    }
}

/// As Go prints a number with `%x`.
fn hex_of(number: i64) -> String {
    if number < 0 {
        format!("-{:x}", number.unsigned_abs())
    } else {
        format!("{number:x}")
    }
}

/// The prefix under which those wait who use `name`.
pub(crate) fn prefix_of(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// Leaves the line when a caller gives up before its turn.
pub(crate) struct LeaveOnDrop {
    pub front: Front,
    pub key: Option<Vec<u8>>,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let front = self.front.clone();
            tokio::spawn(async move { front.leave(key).await });
        }
    }
}
