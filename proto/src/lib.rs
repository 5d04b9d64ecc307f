//! The wire formats that Xebec speaks, as code generated from the `.proto` files beside this crate. Knows nothing else.

#![allow(clippy::all, clippy::too_many_lines, missing_docs)]

/// Keys and events of etcd's v3 API.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Services and messages of etcd's v3 API.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
