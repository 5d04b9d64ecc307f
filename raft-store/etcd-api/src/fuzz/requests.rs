//! The request of every method, as protobuf and in its JSON form. One row per method.

use prost::Message;
use raft_store::fuzz::Target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::grpc_health_v1::HealthCheckRequest;
use xebec_proto::v3electionpb as election;
use xebec_proto::v3lockpb as lock;

use crate::gateway::parse;

macro_rules! requests {
    ($($name:literal $message:ty: $sample:literal;)*) => {
        pub const PROTOBUF: &[Target] = &[
            $(Target::new($name, || of_json::<$message>($sample), protobuf::<$message>),)*
            Target::new("grpc.health.v1.Health/Check", health, protobuf::<HealthCheckRequest>),
            Target::new("grpc.health.v1.Health/Watch", health, protobuf::<HealthCheckRequest>),
        ];
        pub const JSON: &[Target] = &[
            $(Target::new(concat!($name, " as JSON"), || texts($sample), json::<$message>),)*
        ];
    };
}

requests! {
    "etcdserverpb.KV/Range" pb::RangeRequest:
        r#"{"key":"YQ==","range_end":"Yg==","limit":"5","sort_order":"DESCEND","sort_target":1,"keys_only":true}"#;
    "etcdserverpb.KV/Put" pb::PutRequest: r#"{"key":"YQ==","value":"MQ==","lease":"-7","prev_kv":true}"#;
    "etcdserverpb.KV/DeleteRange" pb::DeleteRangeRequest: r#"{"key":"YQ==","range_end":"AA==","prev_kv":true}"#;
    "etcdserverpb.KV/Txn" pb::TxnRequest:
        r#"{"compare":[{"result":"EQUAL","target":"VALUE","key":"YQ==","value":"MQ=="}],
            "success":[{"requestPut":{"key":"YQ=="}},{"request_txn":{"failure":[{"request_range":{"key":"YQ=="}}]}}],
            "failure":[{"request_delete_range":{"key":"YQ=="}}]}"#;
    "etcdserverpb.KV/Compact" pb::CompactionRequest: r#"{"revision":"300","physical":true}"#;
    "etcdserverpb.Watch/Watch" pb::WatchRequest:
        r#"{"create_request":{"key":"YQ==","start_revision":"3","filters":["NOPUT",1],"watch_id":"9","fragment":true}}"#;
    "etcdserverpb.Lease/LeaseGrant" pb::LeaseGrantRequest: r#"{"ID":"7","TTL":60}"#;
    "etcdserverpb.Lease/LeaseRevoke" pb::LeaseRevokeRequest: r#"{"ID":"7"}"#;
    "etcdserverpb.Lease/LeaseKeepAlive" pb::LeaseKeepAliveRequest: r#"{"ID":"-9223372036854775808"}"#;
    "etcdserverpb.Lease/LeaseTimeToLive" pb::LeaseTimeToLiveRequest: r#"{"ID":"7","keys":true}"#;
    "etcdserverpb.Lease/LeaseLeases" pb::LeaseLeasesRequest: "{}";
    "etcdserverpb.Cluster/MemberAdd" pb::MemberAddRequest: r#"{"peerURLs":["http://127.0.0.1:1"],"isLearner":true}"#;
    "etcdserverpb.Cluster/MemberRemove" pb::MemberRemoveRequest: r#"{"ID":"18446744073709551615"}"#;
    "etcdserverpb.Cluster/MemberUpdate" pb::MemberUpdateRequest: r#"{"ID":"7","peerURLs":["a","b"]}"#;
    "etcdserverpb.Cluster/MemberList" pb::MemberListRequest: r#"{"linearizable":true}"#;
    "etcdserverpb.Cluster/MemberPromote" pb::MemberPromoteRequest: r#"{"ID":"7"}"#;
    "etcdserverpb.Maintenance/Alarm" pb::AlarmRequest: r#"{"action":"ACTIVATE","memberID":"7","alarm":"NOSPACE"}"#;
    "etcdserverpb.Maintenance/Status" pb::StatusRequest: "{}";
    "etcdserverpb.Maintenance/Defragment" pb::DefragmentRequest: "{}";
    "etcdserverpb.Maintenance/Hash" pb::HashRequest: "{}";
    "etcdserverpb.Maintenance/HashKV" pb::HashKvRequest: r#"{"revision":"300"}"#;
    "etcdserverpb.Maintenance/Snapshot" pb::SnapshotRequest: "{}";
    "etcdserverpb.Maintenance/MoveLeader" pb::MoveLeaderRequest: r#"{"targetID":"7"}"#;
    "etcdserverpb.Maintenance/Downgrade" pb::DowngradeRequest: r#"{"action":"VALIDATE","version":"3.5"}"#;
    "etcdserverpb.Auth/AuthEnable" pb::AuthEnableRequest: "{}";
    "etcdserverpb.Auth/AuthDisable" pb::AuthDisableRequest: "{}";
    "etcdserverpb.Auth/AuthStatus" pb::AuthStatusRequest: "{}";
    "etcdserverpb.Auth/Authenticate" pb::AuthenticateRequest: r#"{"name":"root","password":"x"}"#;
    "etcdserverpb.Auth/UserAdd" pb::AuthUserAddRequest:
        r#"{"name":"root","password":"x","options":{"no_password":true},"hashedPassword":"y"}"#;
    "etcdserverpb.Auth/UserGet" pb::AuthUserGetRequest: r#"{"name":"root"}"#;
    "etcdserverpb.Auth/UserList" pb::AuthUserListRequest: "{}";
    "etcdserverpb.Auth/UserDelete" pb::AuthUserDeleteRequest: r#"{"name":"root"}"#;
    "etcdserverpb.Auth/UserChangePassword" pb::AuthUserChangePasswordRequest: r#"{"name":"root","password":"x"}"#;
    "etcdserverpb.Auth/UserGrantRole" pb::AuthUserGrantRoleRequest: r#"{"user":"root","role":"r"}"#;
    "etcdserverpb.Auth/UserRevokeRole" pb::AuthUserRevokeRoleRequest: r#"{"name":"root","role":"r"}"#;
    "etcdserverpb.Auth/RoleAdd" pb::AuthRoleAddRequest: r#"{"name":"r"}"#;
    "etcdserverpb.Auth/RoleGet" pb::AuthRoleGetRequest: r#"{"role":"r"}"#;
    "etcdserverpb.Auth/RoleList" pb::AuthRoleListRequest: "{}";
    "etcdserverpb.Auth/RoleDelete" pb::AuthRoleDeleteRequest: r#"{"role":"r"}"#;
    "etcdserverpb.Auth/RoleGrantPermission" pb::AuthRoleGrantPermissionRequest:
        r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#;
    "etcdserverpb.Auth/RoleRevokePermission" pb::AuthRoleRevokePermissionRequest:
        r#"{"role":"r","key":"YQ==","range_end":"Yg=="}"#;
    "v3lockpb.Lock/Lock" lock::LockRequest: r#"{"name":"YQ==","lease":"7"}"#;
    "v3lockpb.Lock/Unlock" lock::UnlockRequest: r#"{"key":"YQ=="}"#;
    "v3electionpb.Election/Campaign" election::CampaignRequest: r#"{"name":"YQ==","lease":"7","value":"MQ=="}"#;
    "v3electionpb.Election/Proclaim" election::ProclaimRequest:
        r#"{"leader":{"name":"YQ==","key":"Yg==","rev":"3","lease":"7"},"value":"MQ=="}"#;
    "v3electionpb.Election/Leader" election::LeaderRequest: r#"{"name":"YQ=="}"#;
    "v3electionpb.Election/Observe" election::LeaderRequest: r#"{"name":"YQ=="}"#;
    "v3electionpb.Election/Resign" election::ResignRequest: r#"{"leader":{"key":"Yg==","rev":"3"}}"#;
}

fn protobuf<M: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8]) -> bool {
    let Ok(message) = M::decode(data) else {
        return false;
    };
    assert_eq!(
        M::decode(&message.encode_to_vec()[..]).as_ref(),
        Ok(&message)
    );
    true
}

/// Whether all JSON texts were taken.
fn json<M>(data: &[u8]) -> bool
where
    M: Message + Default + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let body = bytes::Bytes::copy_from_slice(data);
    let Ok(messages) = parse::<M>(Ok(body)) else {
        return false;
    };
    for message in messages {
        let text = serde_json::to_vec(&message).expect("what came as JSON is JSON");
        let again = parse::<M>(Ok(text.into())).expect("it was just written");
        assert_eq!(again, [message]);
    }
    true
}

fn of_json<M: Message + DeserializeOwned>(text: &str) -> Vec<Vec<u8>> {
    let message: M = serde_json::from_str(text).expect("a sample is well-formed");
    vec![message.encode_to_vec()]
}

/// One text, and two of them with a null between.
fn texts(text: &str) -> Vec<Vec<u8>> {
    let one = text.as_bytes().to_vec();
    let nulls = text
        .replacen('{', "{\"nothing\":null,", 1)
        .replace(",}", "}");
    vec![one, format!("{text}\n{nulls}").into_bytes()]
}

fn health() -> Vec<Vec<u8>> {
    let request = HealthCheckRequest {
        service: "etcd".to_owned(),
    };
    vec![request.encode_to_vec()]
}
