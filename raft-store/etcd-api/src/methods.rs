//! The table of all methods: how each is called on the wire, for dispatch, metrics and exact errors.

/// How requests and answers of a method come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

/// One method of the API.
#[derive(Debug)]
pub(crate) struct Method {
    pub service: &'static str,
    pub name: &'static str,
    pub kind: Kind,
}

macro_rules! methods {
    ($($service:literal: $($name:ident $kind:ident),*;)*) => {
        &[$($(Method { service: $service, name: stringify!($name), kind: Kind::$kind }),*),*]
    };
}

/// Every method; its place here is its number in metrics.
pub(crate) const METHODS: &[Method] = methods! {
    "etcdserverpb.KV": Range Unary, Put Unary, DeleteRange Unary, Txn Unary, Compact Unary;
    "etcdserverpb.Watch": Watch BidiStream;
    "etcdserverpb.Lease": LeaseGrant Unary, LeaseRevoke Unary, LeaseKeepAlive BidiStream, LeaseTimeToLive Unary,
        LeaseLeases Unary;
    "etcdserverpb.Cluster": MemberAdd Unary, MemberRemove Unary, MemberUpdate Unary, MemberList Unary,
        MemberPromote Unary;
    "etcdserverpb.Maintenance": Alarm Unary, Status Unary, Defragment Unary, Hash Unary, HashKV Unary,
        Snapshot ServerStream, MoveLeader Unary, Downgrade Unary;
    "etcdserverpb.Auth": AuthEnable Unary, AuthDisable Unary, AuthStatus Unary, Authenticate Unary, UserAdd Unary,
        UserGet Unary, UserList Unary, UserDelete Unary, UserChangePassword Unary, UserGrantRole Unary,
        UserRevokeRole Unary, RoleAdd Unary, RoleGet Unary, RoleList Unary, RoleDelete Unary,
        RoleGrantPermission Unary, RoleRevokePermission Unary;
    "v3lockpb.Lock": Lock Unary, Unlock Unary;
    "v3electionpb.Election": Campaign Unary, Proclaim Unary, Leader Unary, Observe ServerStream, Resign Unary;
    "grpc.health.v1.Health": Check Unary, Watch ServerStream;
};

/// Whether a learner serves the method (of ranges only the serializable ones), as in etcd.
pub(crate) fn is_for_learners(method: usize) -> bool {
    matches!(METHODS[method].name, "Range" | "Status" | "Snapshot")
}

/// Finds a method by the path of its requests, or says as gRPC for Go does what is not there.
///
/// # Errors
/// The path names no method.
pub(crate) fn find(path: &str) -> Result<usize, String> {
    let (service, name) = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
        .ok_or_else(|| format!("malformed method name: {path:?}"))?;
    let found = METHODS
        .iter()
        .position(|method| method.name == name && method.service == service);
    found.ok_or_else(|| {
        if METHODS.iter().any(|method| method.service == service) {
            format!("unknown method {name} for service {service}")
        } else {
            format!("unknown service {service}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let name = |path| find(path).map(|at| METHODS[at].name);
        assert_eq!(name("/etcdserverpb.KV/Range"), Ok("Range"));
        assert_eq!(name("/grpc.health.v1.Health/Watch"), Ok("Watch"));
        let unknown = |path| name(path).expect_err("no such method");
        assert_eq!(unknown("/a.B/C"), "unknown service a.B");
        assert_eq!(
            unknown("/etcdserverpb.KV/Drop"),
            "unknown method Drop for service etcdserverpb.KV"
        );
        assert_eq!(unknown("x"), "malformed method name: \"x\"");
    }
}
