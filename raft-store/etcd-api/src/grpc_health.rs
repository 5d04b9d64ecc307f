//! gRPC's health checking protocol, as etcd answers it: the server as a whole, no single services.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use xebec_proto::grpc_health_v1::health_check_response::ServingStatus;
use xebec_proto::grpc_health_v1::health_server::Health;
use xebec_proto::grpc_health_v1::{HealthCheckRequest, HealthCheckResponse};

use crate::front::Front;

fn answer(service: &str) -> HealthCheckResponse {
    let status = if service.is_empty() {
        ServingStatus::Serving
    } else {
        ServingStatus::ServiceUnknown
    };
    HealthCheckResponse {
        status: status as i32,
    }
}

#[tonic::async_trait]
impl Health for Front {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(answer(&service)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// The status now; it lasts until the server stops, which ends the stream.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let now = answer(&request.into_inner().service);
        let stop = self.shutdown.clone().cancelled_owned();
        let forever = futures::stream::iter([Ok(now)]).chain(futures::stream::pending());
        Ok(Response::new(Box::pin(forever.take_until(stop))))
    }
}
