//! containerd's own event service, as far as it tells of containers that ended.

use futures::{Stream, StreamExt};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

#[derive(Clone, PartialEq, prost::Message)]
struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

/// The fields of an event that are looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(string, tag = "3")]
    topic: String,
}

/// An item for every end of a process in a container of CRI's.
pub(super) async fn subscribe(channel: Channel) -> Result<impl Stream<Item = ()>, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|e| tonic::Status::unavailable(e.to_string()))?;
    let filters = vec![
        "topic==\"/tasks/exit\",namespace==k8s.io".into(),
        "topic==\"/tasks/oom\",namespace==k8s.io".into(),
    ];
    let codec = tonic_prost::ProstCodec::<SubscribeRequest, Envelope>::default();
    let path = PathAndQuery::from_static("/containerd.services.events.v1.Events/Subscribe");
    let request = tonic::Request::new(SubscribeRequest { filters });
    let stream = client
        .server_streaming(request, path, codec)
        .await?
        .into_inner();
    Ok(stream
        .take_while(|event| futures::future::ready(event.is_ok()))
        .map(|_| ()))
}
