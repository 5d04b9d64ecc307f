//! containerd's own event service, as far as it tells of containers that ended.

use futures::{Stream, StreamExt};
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

#[derive(Clone, PartialEq, Message)]
struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

/// The fields of an event that are looked at.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The end of a process.
#[derive(Clone, PartialEq, Message)]
struct TaskExit {
    #[prost(string, tag = "1")]
    container_id: String,
    /// The container's id for its first process, another for one that was executed in it.
    #[prost(string, tag = "2")]
    id: String,
}

/// An item for every end of a container or sandbox of CRI's: its id.
pub(super) async fn subscribe(
    channel: Channel,
) -> Result<impl Stream<Item = String>, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|e| tonic::Status::unavailable(e.to_string()))?;
    let filters = vec!["topic==\"/tasks/exit\",namespace==k8s.io".into()];
    let codec = tonic_prost::ProstCodec::<SubscribeRequest, Envelope>::default();
    let path = PathAndQuery::from_static("/containerd.services.events.v1.Events/Subscribe");
    let request = tonic::Request::new(SubscribeRequest { filters });
    let stream = client
        .server_streaming(request, path, codec)
        .await?
        .into_inner();
    Ok(stream
        .take_while(|event| futures::future::ready(event.is_ok()))
        .filter_map(|event| futures::future::ready(event.ok().and_then(|e| ended(&e)))))
}

/// The container whose first process the event tells the end of.
fn ended(envelope: &Envelope) -> Option<String> {
    let exit = TaskExit::decode(envelope.event.as_ref()?.value.as_slice()).ok()?;
    (exit.id == exit.container_id).then_some(exit.container_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_first_processes_end_a_container() {
        let check = |id: &str, expect: Option<&str>| {
            let exit = TaskExit {
                container_id: "c".into(),
                id: id.into(),
            };
            let event = Any {
                value: exit.encode_to_vec(),
            };
            let envelope = Envelope { event: Some(event) };
            assert_eq!(ended(&envelope).as_deref(), expect, "{id}");
        };
        check("c", Some("c"));
        check("probe", None);
    }
}
