//! The one call of the gRPC health-checking protocol that probes make.

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SERVING` of the protocol.
const SERVING: i32 = 1;

/// Whether the service says that it serves.
pub(crate) async fn check(host: &str, port: u16, service: String) -> Result<bool, String> {
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let endpoint =
        Endpoint::from_shared(format!("http://{authority}")).map_err(|e| e.to_string())?;
    let channel = endpoint
        .connect()
        .await
        .map_err(|e| format!("timeout: failed to connect service \"{authority}\": {e}"))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthCheckRequest { service });
    let answer = client.unary(request, path, codec).await.map_err(|status| match status.code() {
        tonic::Code::Unimplemented => {
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ".to_string()
                + status.message()
        }
        _ => crate::pull::describe(&status),
    })?;
    Ok(answer.into_inner().status == SERVING)
}
