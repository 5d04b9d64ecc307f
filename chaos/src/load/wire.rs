//! Between the history's terms and etcd's messages.

use anyhow::{Context, Result, bail};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::mvccpb;

use crate::bench::store::Client;
use crate::history::{By, Call, Condition, Event, Key, Outcome, Seen, Transaction, Value};

/// Calls, and tells the answer in the history's terms.
pub async fn call(client: &Client, call: &Call) -> Result<Outcome> {
    match call {
        Call::Transaction(transaction) => transact(client, transaction).await,
        Call::Grant { ttl_seconds } => {
            let request = pb::LeaseGrantRequest {
                ttl: *ttl_seconds,
                id: 0,
            };
            let answer: pb::LeaseGrantResponse = client.unary("Lease/LeaseGrant", &request).await?;
            Ok(Outcome::Lease {
                lease: answer.id,
                ttl_seconds: answer.ttl,
            })
        }
        Call::KeepAlive { lease } => {
            let request = pb::LeaseKeepAliveRequest { id: *lease };
            let mut stream = client.stream("Lease/LeaseKeepAlive", &request).await?;
            let answer: Option<pb::LeaseKeepAliveResponse> = stream.next().await?;
            let answer = answer.context("no answer")?;
            Ok(Outcome::Lease {
                lease: answer.id,
                ttl_seconds: answer.ttl,
            })
        }
        Call::Revoke { lease } => {
            let request = pb::LeaseRevokeRequest { id: *lease };
            client
                .unary::<pb::LeaseRevokeResponse>("Lease/LeaseRevoke", &request)
                .await?;
            Ok(Outcome::Lease {
                lease: *lease,
                ttl_seconds: 0,
            })
        }
    }
}

async fn transact(client: &Client, transaction: &Transaction) -> Result<Outcome> {
    let Transaction {
        conditions,
        writes,
        reads,
        ..
    } = transaction;
    match (&conditions[..], &writes[..], &reads[..]) {
        ([], [(key, Some(value))], []) => {
            let answer = client.put(&put(*key, value, transaction.lease)).await?;
            done(answer.header, true, Vec::new())
        }
        ([], [], [key]) => {
            let answer = client.range(&range(*key, transaction.serializable)).await?;
            let seen = answer.kvs.first().map(seen);
            done(answer.header, true, vec![seen])
        }
        _ => {
            let request = pb::TxnRequest {
                compare: conditions.iter().map(compare).collect(),
                success: if writes.is_empty() {
                    range_ops(transaction)
                } else {
                    write_ops(transaction)
                },
                failure: range_ops(transaction),
            };
            let answer = client.txn(&request).await?;
            let ranges = answer
                .responses
                .iter()
                .filter_map(|response| match &response.response {
                    Some(pb::response_op::Response::ResponseRange(range)) => {
                        Some(range.kvs.first().map(seen))
                    }
                    _ => None,
                });
            done(answer.header, answer.succeeded, ranges.collect())
        }
    }
}

fn done(
    header: Option<pb::ResponseHeader>,
    succeeded: bool,
    seen: Vec<Option<Seen>>,
) -> Result<Outcome> {
    Ok(Outcome::Done {
        revision: header.context("an answer without a header")?.revision,
        succeeded,
        seen,
    })
}

fn range(key: Key, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_string().into(),
        serializable,
        ..Default::default()
    }
}

fn put(key: Key, value: &Value, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_string().into(),
        value: bytes::Bytes::copy_from_slice(value.as_bytes()),
        lease,
        ..Default::default()
    }
}

fn range_ops(transaction: &Transaction) -> Vec<pb::RequestOp> {
    let ops = transaction.reads.iter().map(|key| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(range(
            *key,
            transaction.serializable,
        ))),
    });
    ops.collect()
}

fn write_ops(transaction: &Transaction) -> Vec<pb::RequestOp> {
    let ops = transaction.writes.iter().map(|(key, value)| {
        let request = match value {
            Some(value) => pb::request_op::Request::RequestPut(put(*key, value, transaction.lease)),
            None => pb::request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key.to_string().into(),
                ..Default::default()
            }),
        };
        pb::RequestOp {
            request: Some(request),
        }
    });
    ops.collect()
}

fn compare(condition: &Condition) -> pb::Compare {
    use pb::compare::{CompareTarget, TargetUnion};
    let (target, union) = match (&condition.value, condition.by) {
        (_, By::Created(revision)) => {
            (CompareTarget::Create, TargetUnion::CreateRevision(revision))
        }
        (None, _) => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        (Some(_), By::Modified(revision)) => {
            (CompareTarget::Mod, TargetUnion::ModRevision(revision))
        }
        (Some(value), By::Value) => {
            let value = bytes::Bytes::copy_from_slice(value.as_bytes());
            (CompareTarget::Value, TargetUnion::Value(value))
        }
    };
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: target.into(),
        key: condition.key.to_string().into(),
        target_union: Some(union),
        ..Default::default()
    }
}

pub fn seen(kv: &mvccpb::KeyValue) -> Seen {
    Seen {
        value: String::from_utf8_lossy(&kv.value).into(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// An event, and the key as it was before, if the watcher was told.
pub fn event(event: &mvccpb::Event) -> Result<(Event, Option<Seen>)> {
    let kv = event.kv.as_ref().context("an event without a key")?;
    let Some(key) = Key::parse(&kv.key) else {
        bail!("a key that is none of ours: {:?}", kv.key);
    };
    let is_put = event.r#type() == mvccpb::event::EventType::Put;
    let found = Event {
        revision: kv.mod_revision,
        key,
        put: is_put.then(|| seen(kv)),
    };
    Ok((found, event.prev_kv.as_ref().map(seen)))
}
