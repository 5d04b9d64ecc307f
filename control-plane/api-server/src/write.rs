//! The last step of every write: one transaction that changes an object if it is still as it was read.

use std::sync::Arc;

use api_machinery::Status;
use bytes::Bytes;
use serde_json::Value;

use crate::answer::Context;
use crate::cache::{CachedObject, with_resource_version};
use crate::core::Core;
use crate::errors::from_store;
use crate::resource::Resource;
use crate::store::{Compare, Op, Revision, Txn};

/// Conditions and operations beside the object's own, committed with it (allocated addresses).
#[derive(Clone, Debug, Default)]
pub(crate) struct Companions {
    pub compares: Vec<Compare>,
    pub ops: Vec<Op>,
}

/// What came of a write.
pub(crate) enum Outcome {
    /// The object as a client gets it.
    Done(Bytes),
    /// Nothing had to be written, if the object is still as it was read.
    Unchanged,
    /// The object is not as expected; this is what is there.
    Changed(Option<Arc<CachedObject>>),
    /// The object is as expected, but a companion's condition did not hold.
    CompanionChanged,
}

/// The bytes that the store holds for an object.
pub(crate) fn encode(object: &Value) -> Result<Bytes, Status> {
    serde_json::to_vec(object)
        .map(Bytes::from)
        .map_err(Status::internal_error)
}

fn storage_key(resource: &Resource, key: &str) -> Result<Bytes, Status> {
    let cache = resource.stored("write")?;
    Ok(Bytes::from(format!("{}{key}", cache.prefix)))
}

/// Puts an object that is at `expected` (0: does not exist).
pub(crate) async fn put(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    key: &str,
    expected: Revision,
    value: Bytes,
    companions: Companions,
) -> Result<Outcome, Status> {
    let stored_at = storage_key(resource, key)?;
    let lease = match resource.kind.plural.as_ref() == "events" {
        true => core
            .event_leases
            .current(core.store.as_ref())
            .await
            .map_err(from_store)?,
        false => 0,
    };
    let op = Op::Put {
        key: stored_at.clone(),
        value: value.clone(),
        lease,
    };
    let result = commit(core, cx, stored_at, expected, op, companions).await?;
    if result.succeeded {
        let json = with_resource_version(&value, result.revision)
            .ok_or_else(|| Status::internal_error("an object without metadata"))?;
        return Ok(Outcome::Done(json));
    }
    Ok(failed(
        key,
        expected,
        result.gets.into_iter().next().flatten(),
    ))
}

/// Deletes an object that is at `expected`.
pub(crate) async fn delete(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    object: &CachedObject,
    companions: Companions,
) -> Result<Outcome, Status> {
    let stored_at = storage_key(resource, &object.key)?;
    let op = Op::Delete {
        key: stored_at.clone(),
    };
    let result = commit(core, cx, stored_at, object.revision, op, companions).await?;
    if result.succeeded {
        return Ok(Outcome::Done(object.json_at(result.revision)));
    }
    Ok(failed(
        &object.key,
        object.revision,
        result.gets.into_iter().next().flatten(),
    ))
}

async fn commit(
    core: &Core,
    cx: &Context,
    key: Bytes,
    expected: Revision,
    op: Op,
    companions: Companions,
) -> Result<crate::store::TxnResult, Status> {
    let mut compares = vec![Compare::ModRevision {
        key: key.clone(),
        revision: expected,
    }];
    compares.extend(companions.compares);
    let mut then = vec![op];
    then.extend(companions.ops);
    let txn = Txn {
        compares,
        then,
        otherwise: vec![Op::Get { key }],
        fence: cx.fence.clone(),
    };
    core.store.txn(txn).await.map_err(from_store)
}

fn failed(key: &str, expected: Revision, found: Option<crate::store::Entry>) -> Outcome {
    if found.as_ref().map_or(0, |e| e.mod_revision) == expected {
        return Outcome::CompanionChanged;
    }
    Outcome::Changed(
        found
            .and_then(|entry| CachedObject::new(key.into(), &entry))
            .map(Arc::new),
    )
}
