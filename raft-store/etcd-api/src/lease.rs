//! The Lease service.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use raft_store as store;
use tonic::{Request, Response, Status, Streaming};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::lease_server::Lease;

use crate::error::status;
use crate::front::Front;
use crate::until::until;

impl Front {
    /// Renews the leases of one stream, in the order in which they are asked for.
    pub(crate) fn keep_alive_stream<S>(
        &self,
        requests: S,
    ) -> impl Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send + use<S>
    where
        S: Stream<Item = Result<pb::LeaseKeepAliveRequest, Status>> + Send + 'static,
    {
        let front = self.clone();
        let answers = requests.then(move |request| {
            let front = front.clone();
            async move {
                // Taken before the renewal: a lease that ends later ends at a later revision.
                let header = front.current_header();
                let answer = front.store.lease_keep_alive(request?.id).await;
                let answer = answer.map_err(status)?;
                Ok(pb::LeaseKeepAliveResponse {
                    header,
                    id: answer.id,
                    ttl: answer.ttl,
                })
            }
        });
        until(answers, self.stopped())
    }
}

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
        let answers = self.keep_alive_stream(request.into_inner());
        Ok(Response::new(Box::pin(answers)))
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
