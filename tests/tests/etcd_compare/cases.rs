//! All cases, by file; and short forms of the requests that most of them make.

mod auth;
mod cluster;
mod compaction;
mod gateway;
mod gateway_services;
mod kubernetes;
mod lease;
mod limits;
mod locks;
mod maintenance;
mod members;
mod promises;
mod range;
mod txn;
mod txn_compare;
mod watch;
mod watch_progress;
mod writes;

use xebec_proto::etcdserverpb as pb;

use crate::session::Case;

pub use members::CASES as MEMBERS;
pub use promises::CASES as PROMISES;

/// Every case that asks one member; those that compact come last, since they take history from the others.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        range::CASES,
        writes::CASES,
        txn::CASES,
        txn_compare::CASES,
        watch::CASES,
        watch_progress::CASES,
        lease::CASES,
        locks::CASES,
        cluster::CASES,
        maintenance::CASES,
        auth::CASES,
        limits::CASES,
        gateway::CASES,
        gateway_services::CASES,
        kubernetes::CASES,
        compaction::CASES,
    ]
    .into_iter()
    .flatten()
}

pub fn get(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

/// Keys from `key` up to `end`.
pub fn span(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

pub fn put(key: &'static str, value: &'static str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

pub fn delete(key: &'static str, end: &'static str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

/// Operations of a transaction.
pub mod op {
    use xebec_proto::etcdserverpb as pb;
    use xebec_proto::etcdserverpb::request_op::Request;

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    pub fn range(request: pb::RangeRequest) -> pb::RequestOp {
        op(Request::RequestRange(request))
    }

    pub fn put(key: &'static str, value: &'static str) -> pb::RequestOp {
        op(Request::RequestPut(super::put(key, value)))
    }

    pub fn put_with(request: pb::PutRequest) -> pb::RequestOp {
        op(Request::RequestPut(request))
    }

    pub fn delete(key: &'static str, end: &'static str) -> pb::RequestOp {
        op(Request::RequestDeleteRange(super::delete(key, end)))
    }

    pub fn txn(request: pb::TxnRequest) -> pb::RequestOp {
        op(Request::RequestTxn(request))
    }
}

/// A transaction without conditions.
pub fn then(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest {
        success,
        ..Default::default()
    }
}

/// Watches `key`, up to `end` if it is not empty.
pub fn watch_of(key: &'static str, end: &'static str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}
