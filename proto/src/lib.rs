//! The wire formats that Xebec speaks, as code generated from the `.proto` files beside this crate. Knows nothing else.
//!
//! Messages of etcd's API also have their proto3 JSON form, as serde's `Serialize` and `Deserialize`.

#![allow(clippy::all, clippy::too_many_lines, missing_docs)]

/// Users, roles and permissions of etcd's v3 API.
pub mod authpb {
    tonic::include_proto!("authpb");
    include!(concat!(env!("OUT_DIR"), "/authpb.serde.rs"));
}

/// Keys and events of etcd's v3 API.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
    include!(concat!(env!("OUT_DIR"), "/mvccpb.serde.rs"));
}

/// Services and messages of etcd's v3 API.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.serde.rs"));
}

/// Locks as a service of etcd's v3 API.
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.serde.rs"));
}

/// Elections as a service of etcd's v3 API.
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.serde.rs"));
}

/// gRPC's health checking protocol.
pub mod grpc_health_v1 {
    tonic::include_proto!("grpc.health.v1");
}
