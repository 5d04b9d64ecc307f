//! The Auth service, which etcd answers although authentication is not enabled.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;

use crate::session::Session;

crate::cases!("auth": status, authenticate, disable, enable, users, roles);

async fn status(s: &mut Session) -> Result<()> {
    let answer = s.auth().auth_status(pb::AuthStatusRequest {}).await;
    s.record("status", answer).map(drop)
}

async fn authenticate(s: &mut Session) -> Result<()> {
    let request = pb::AuthenticateRequest {
        name: "root".to_owned(),
        password: "x".to_owned(),
    };
    let answer = s.auth().authenticate(request).await;
    s.record("authenticate", answer).map(drop)
}

async fn disable(s: &mut Session) -> Result<()> {
    let answer = s.auth().auth_disable(pb::AuthDisableRequest {}).await;
    s.record("disable", answer).map(drop)
}

async fn enable(s: &mut Session) -> Result<()> {
    let answer = s.auth().auth_enable(pb::AuthEnableRequest {}).await;
    s.record("enable", answer).map(drop)
}

async fn users(s: &mut Session) -> Result<()> {
    let answer = s.auth().user_list(pb::AuthUserListRequest {}).await;
    s.record("list", answer)?;
    let answer = s
        .auth()
        .user_get(pb::AuthUserGetRequest {
            name: "none".to_owned(),
        })
        .await;
    s.record("get", answer)?;
    let answer = s.auth().user_add(pb::AuthUserAddRequest::default()).await;
    s.record("add", answer).map(drop)
}

async fn roles(s: &mut Session) -> Result<()> {
    let answer = s.auth().role_list(pb::AuthRoleListRequest {}).await;
    s.record("list", answer)?;
    let answer = s
        .auth()
        .role_get(pb::AuthRoleGetRequest {
            role: "none".to_owned(),
        })
        .await;
    s.record("get", answer)?;
    let answer = s
        .auth()
        .role_delete(pb::AuthRoleDeleteRequest {
            role: "none".to_owned(),
        })
        .await;
    s.record("delete", answer).map(drop)
}
