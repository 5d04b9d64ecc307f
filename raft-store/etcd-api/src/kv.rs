//! The KV service.

use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::kv_server::Kv;

use crate::convert::{delete_request, put_request, range_request, txn_request};
use crate::error::status;
use crate::front::Front;

#[tonic::async_trait]
impl Kv for Front {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let answer = self
            .store
            .range(range_request(request.into_inner())?)
            .await
            .map_err(status)?;
        Ok(Response::new(self.range_response(answer)))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let answer = self
            .store
            .put(put_request(request.into_inner())?)
            .await
            .map_err(status)?;
        Ok(Response::new(self.put_response(answer)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let answer = self
            .store
            .delete_range(delete_request(request.into_inner())?)
            .await
            .map_err(status)?;
        Ok(Response::new(self.delete_response(answer)))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let answer = self
            .store
            .txn(txn_request(request.into_inner())?)
            .await
            .map_err(status)?;
        Ok(Response::new(self.txn_response(answer)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let request = request.into_inner();
        let answer = self
            .store
            .compact(request.revision, request.physical)
            .await
            .map_err(status)?;
        Ok(Response::new(pb::CompactionResponse {
            header: self.header(answer.revision),
        }))
    }
}
