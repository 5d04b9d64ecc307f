//! The KV service.

use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::kv_server::Kv;

use crate::convert::{delete_request, put_request, range_request, txn_request};
use crate::error::status;
use crate::front::{Front, not_for_learners};

impl Front {
    /// A learner reads only its own state.
    pub(crate) fn check_learner(&self, request: &pb::RangeRequest) -> Result<(), Status> {
        match !request.serializable && self.store.is_learner() {
            true => Err(not_for_learners()),
            false => Ok(()),
        }
    }

    pub(crate) async fn answer_range(
        &self,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Status> {
        self.check_learner(&request)?;
        let answer = self.store.range(range_request(request)?).await;
        Ok(self.range_response(answer.map_err(status)?))
    }

    pub(crate) async fn answer_put(
        &self,
        request: pb::PutRequest,
    ) -> Result<pb::PutResponse, Status> {
        let answer = self.store.put(put_request(request)?).await;
        Ok(self.put_response(answer.map_err(status)?))
    }

    pub(crate) async fn answer_delete(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        let answer = self.store.delete_range(delete_request(request)?).await;
        Ok(self.delete_response(answer.map_err(status)?))
    }

    pub(crate) async fn answer_txn(
        &self,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Status> {
        let answer = self.store.txn(txn_request(request)?).await;
        Ok(self.txn_response(answer.map_err(status)?))
    }
}

#[tonic::async_trait]
impl Kv for Front {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        self.answer_range(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        self.answer_put(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        self.answer_delete(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        self.answer_txn(request.into_inner())
            .await
            .map(Response::new)
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
