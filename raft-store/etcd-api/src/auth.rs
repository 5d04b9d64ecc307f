//! The Auth service: authentication is never enabled. What asks whether it is gets an answer, what would change it is refused.

use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::auth_server::Auth;

use crate::front::Front;

fn refused() -> Status {
    Status::unimplemented(
        "etcdserver: users and roles are not supported; restrict clients by certificates (--client-cert-auth)",
    )
}

/// The service: what is answered, and what is refused.
macro_rules! service {
    ({ $($answered:item)* } refused { $($method:ident: $request:ident => $response:ident),* $(,)? }) => {
        #[tonic::async_trait]
        impl Auth for Front {
            $($answered)*

            $(async fn $method(
                &self,
                _: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                Err(refused())
            })*
        }
    };
}

service! {
    {
    async fn auth_status(
        &self,
        _: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        Ok(Response::new(pb::AuthStatusResponse {
            header: self.current_header(),
            enabled: false,
            auth_revision: 1,
        }))
    }

    async fn authenticate(
        &self,
        _: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        Err(Status::failed_precondition(
            "etcdserver: authentication is not enabled",
        ))
    }

    async fn auth_disable(
        &self,
        _: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        // It is disabled already, which etcd answers likewise.
        Ok(Response::new(pb::AuthDisableResponse {
            header: self.current_header(),
        }))
    }

    }
    refused {
        auth_enable: AuthEnableRequest => AuthEnableResponse,
        user_add: AuthUserAddRequest => AuthUserAddResponse,
        user_get: AuthUserGetRequest => AuthUserGetResponse,
        user_list: AuthUserListRequest => AuthUserListResponse,
        user_delete: AuthUserDeleteRequest => AuthUserDeleteResponse,
        user_change_password: AuthUserChangePasswordRequest => AuthUserChangePasswordResponse,
        user_grant_role: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse,
        user_revoke_role: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse,
        role_add: AuthRoleAddRequest => AuthRoleAddResponse,
        role_get: AuthRoleGetRequest => AuthRoleGetResponse,
        role_list: AuthRoleListRequest => AuthRoleListResponse,
        role_delete: AuthRoleDeleteRequest => AuthRoleDeleteResponse,
        role_grant_permission: AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse,
        role_revoke_permission: AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse,
    }
}
