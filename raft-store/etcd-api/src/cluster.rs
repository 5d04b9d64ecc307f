//! The Cluster service.

use raft_store as store;
use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::cluster_server::Cluster;

use crate::error::status;
use crate::front::Front;

fn member(member: store::Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}

fn members(members: Vec<store::Member>) -> Vec<pb::Member> {
    members.into_iter().map(member).collect()
}

impl Front {
    /// As in etcd, answers about members tell no revision.
    fn members_header(&self) -> Option<pb::ResponseHeader> {
        self.header(0)
    }
}

#[tonic::async_trait]
impl Cluster for Front {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let request = request.into_inner();
        let added = self
            .store
            .member_add(request.peer_ur_ls, request.is_learner);
        let (added, all) = added.await.map_err(status)?;
        Ok(Response::new(pb::MemberAddResponse {
            header: self.members_header(),
            member: Some(member(added)),
            members: members(all),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let left = self.store.member_remove(request.into_inner().id);
        Ok(Response::new(pb::MemberRemoveResponse {
            members: members(left.await.map_err(status)?),
            header: self.members_header(),
        }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let request = request.into_inner();
        let all = self.store.member_update(request.id, request.peer_ur_ls);
        Ok(Response::new(pb::MemberUpdateResponse {
            members: members(all.await.map_err(status)?),
            header: self.members_header(),
        }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let all = self.store.members(request.into_inner().linearizable);
        Ok(Response::new(pb::MemberListResponse {
            members: members(all.await.map_err(status)?),
            header: self.members_header(),
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let all = self.store.member_promote(request.into_inner().id);
        Ok(Response::new(pb::MemberPromoteResponse {
            members: members(all.await.map_err(status)?),
            header: self.members_header(),
        }))
    }
}
