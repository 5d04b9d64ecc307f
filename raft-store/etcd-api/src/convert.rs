//! etcd's messages to the store's requests, and back.

use bytes::Bytes;
use raft_store::{self as store, KeyRange};
use tonic::Status;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::mvccpb;

use crate::error::status;
use crate::front::Front;

pub(crate) fn key_value(kv: store::KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// # Errors
/// An empty key, or a sort option that etcd does not know.
pub(crate) fn range_request(request: pb::RangeRequest) -> Result<store::RangeRequest, Status> {
    let unknown = |_| status(store::Error::InvalidSortOption);
    let order = pb::range_request::SortOrder::try_from(request.sort_order).map_err(unknown)?;
    let target = pb::range_request::SortTarget::try_from(request.sort_target).map_err(unknown)?;
    Ok(store::RangeRequest {
        range: KeyRange::from_etcd(non_empty(request.key)?, request.range_end),
        limit: request.limit,
        revision: request.revision,
        sort_target: match target {
            pb::range_request::SortTarget::Key => store::SortTarget::Key,
            pb::range_request::SortTarget::Version => store::SortTarget::Version,
            pb::range_request::SortTarget::Create => store::SortTarget::CreateRevision,
            pb::range_request::SortTarget::Mod => store::SortTarget::ModRevision,
            pb::range_request::SortTarget::Value => store::SortTarget::Value,
        },
        sort_order: match order {
            pb::range_request::SortOrder::None => store::SortOrder::None,
            pb::range_request::SortOrder::Ascend => store::SortOrder::Ascend,
            pb::range_request::SortOrder::Descend => store::SortOrder::Descend,
        },
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

fn non_empty(key: Bytes) -> Result<Bytes, Status> {
    if key.is_empty() {
        Err(status(store::Error::EmptyKey))
    } else {
        Ok(key)
    }
}

pub(crate) fn put_request(request: pb::PutRequest) -> Result<store::PutRequest, Status> {
    Ok(store::PutRequest {
        key: non_empty(request.key)?,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    })
}

pub(crate) fn delete_request(
    request: pb::DeleteRangeRequest,
) -> Result<store::DeleteRangeRequest, Status> {
    let range = KeyRange::from_etcd(non_empty(request.key)?, request.range_end);
    Ok(store::DeleteRangeRequest {
        range,
        prev_kv: request.prev_kv,
    })
}

/// # Errors
/// As the operations in it.
pub(crate) fn txn_request(request: pb::TxnRequest) -> Result<store::TxnRequest, Status> {
    let operations =
        |ops: Vec<pb::RequestOp>| ops.into_iter().map(operation).collect::<Result<_, _>>();
    Ok(store::TxnRequest {
        compare: request
            .compare
            .into_iter()
            .map(compare)
            .collect::<Result<_, _>>()?,
        success: operations(request.success)?,
        failure: operations(request.failure)?,
        fence: None,
    })
}

fn operation(op: pb::RequestOp) -> Result<store::RequestOp, Status> {
    use pb::request_op::Request;
    Ok(
        match op
            .request
            .ok_or_else(|| status(store::Error::KeyNotFound))?
        {
            Request::RequestRange(request) => store::RequestOp::Range(range_request(request)?),
            Request::RequestPut(request) => store::RequestOp::Put(put_request(request)?),
            Request::RequestDeleteRange(request) => {
                store::RequestOp::DeleteRange(delete_request(request)?)
            }
            Request::RequestTxn(request) => store::RequestOp::Txn(txn_request(request)?),
        },
    )
}

fn compare(compare: pb::Compare) -> Result<store::Compare, Status> {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let result = CompareResult::try_from(compare.result);
    let target = CompareTarget::try_from(compare.target);
    let (Ok(result), Ok(target)) = (result, target) else {
        return Err(Status::invalid_argument("etcdserver: unknown comparison"));
    };
    // A value of another sort than the target counts as zero, as in etcd.
    let number = match (target, &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(n)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(n)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => *n,
        _ => 0,
    };
    Ok(store::Compare {
        range: KeyRange::from_etcd(non_empty(compare.key)?, compare.range_end),
        op: match result {
            CompareResult::Equal => store::CompareOp::Equal,
            CompareResult::Greater => store::CompareOp::Greater,
            CompareResult::Less => store::CompareOp::Less,
            CompareResult::NotEqual => store::CompareOp::NotEqual,
        },
        target: match target {
            CompareTarget::Version => store::CompareTarget::Version(number),
            CompareTarget::Create => store::CompareTarget::CreateRevision(number),
            CompareTarget::Mod => store::CompareTarget::ModRevision(number),
            CompareTarget::Lease => store::CompareTarget::Lease(number),
            CompareTarget::Value => store::CompareTarget::Value(match compare.target_union {
                Some(TargetUnion::Value(value)) => value,
                _ => Bytes::new(),
            }),
        },
    })
}

impl Front {
    pub(crate) fn range_response(&self, answer: store::RangeResponse) -> pb::RangeResponse {
        pb::RangeResponse {
            header: self.header(answer.revision),
            ..range_part(answer)
        }
    }

    pub(crate) fn put_response(&self, answer: store::PutResponse) -> pb::PutResponse {
        pb::PutResponse {
            header: self.header(answer.revision),
            ..put_part(answer)
        }
    }

    pub(crate) fn delete_response(
        &self,
        answer: store::DeleteRangeResponse,
    ) -> pb::DeleteRangeResponse {
        pb::DeleteRangeResponse {
            header: self.header(answer.revision),
            ..delete_part(answer)
        }
    }

    pub(crate) fn txn_response(&self, answer: store::TxnResponse) -> pb::TxnResponse {
        pb::TxnResponse {
            header: self.header(answer.revision),
            ..txn_part(answer)
        }
    }
}

/// As in etcd, the header of an answer within a transaction tells the revision alone.
fn part_header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision,
        ..Default::default()
    })
}

fn range_part(answer: store::RangeResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header: part_header(answer.revision),
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: answer.count,
    }
}

fn put_part(answer: store::PutResponse) -> pb::PutResponse {
    pb::PutResponse {
        header: part_header(answer.revision),
        prev_kv: answer.prev_kv.map(key_value),
    }
}

fn delete_part(answer: store::DeleteRangeResponse) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: part_header(answer.revision),
        deleted: answer.deleted,
        prev_kvs: answer.prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// A nested transaction's header tells nothing.
fn txn_part(answer: store::TxnResponse) -> pb::TxnResponse {
    use pb::response_op::Response;
    let response = |op: store::ResponseOp| pb::ResponseOp {
        response: Some(match op {
            store::ResponseOp::Range(answer) => Response::ResponseRange(range_part(answer)),
            store::ResponseOp::Put(answer) => Response::ResponsePut(put_part(answer)),
            store::ResponseOp::DeleteRange(answer) => {
                Response::ResponseDeleteRange(delete_part(answer))
            }
            store::ResponseOp::Txn(answer) => Response::ResponseTxn(txn_part(answer)),
        }),
    };
    pb::TxnResponse {
        header: part_header(0),
        succeeded: answer.succeeded,
        responses: answer.responses.into_iter().map(response).collect(),
    }
}
