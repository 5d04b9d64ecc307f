//! The Lease service.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use raft_store as store;
use tonic::{Request, Response, Status, Streaming};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::lease_server::Lease;

use crate::error::status;
use crate::front::Front;

#[tonic::async_trait]
impl Lease for Front {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let request = store::LeaseGrantRequest {
            id: request.id,
            ttl: request.ttl,
        };
        let answer = self.store.lease_grant(request).await.map_err(status)?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: self.header(answer.revision),
            id: answer.id,
            ttl: answer.ttl,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let answer = self
            .store
            .lease_revoke(request.into_inner().id)
            .await
            .map_err(status)?;
        Ok(Response::new(pb::LeaseRevokeResponse {
            header: self.header(answer.revision),
        }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let front = self.clone();
        let stop = self.shutdown.clone().cancelled_owned();
        let answers = request.into_inner().then(move |request| {
            let front = front.clone();
            async move {
                let answer = front
                    .store
                    .lease_keep_alive(request?.id)
                    .await
                    .map_err(status)?;
                let header = front.header(answer.revision);
                Ok(pb::LeaseKeepAliveResponse {
                    header,
                    id: answer.id,
                    ttl: answer.ttl,
                })
            }
        });
        Ok(Response::new(Box::pin(answers.take_until(stop))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let answer = self
            .store
            .lease_time_to_live(request.id, request.keys)
            .await
            .map_err(status)?;
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header: self.header(answer.revision),
            id: answer.id,
            ttl: answer.ttl,
            granted_ttl: answer.granted_ttl,
            keys: answer.keys,
        }))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let answer = self.store.lease_leases().await.map_err(status)?;
        let leases = answer
            .ids
            .into_iter()
            .map(|id| pb::LeaseStatus { id })
            .collect();
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: self.header(answer.revision),
            leases,
        }))
    }
}
