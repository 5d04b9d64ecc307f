//! The Service `kube-system/kube-dns`: how tools and pods find the cluster's DNS, which every node agent answers itself.

use std::net::IpAddr;

use api_client::Client;
use api_machinery::Status;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

/// Makes the Service where it is missing. It has no selector: no pod is behind it.
///
/// # Errors
/// What the refused write says.
pub async fn ensure(client: &Client, address: IpAddr) -> Result<(), Status> {
    match client.get::<Service>(Some(NAMESPACE), NAME).await {
        Err(status) if status.is_not_found() => {}
        answer => return answer.map(drop),
    }
    match client.create(Some(NAMESPACE), &service(address)).await {
        // Another master was faster.
        Err(status) if status.is_already_exists() => Ok(()),
        answer => answer.map(drop),
    }
}

fn service(address: IpAddr) -> Service {
    let port = |name: &str, protocol: &str| ServicePort {
        name: Some(name.into()),
        port: 53,
        protocol: Some(protocol.into()),
        target_port: Some(IntOrString::Int(53)),
        ..ServicePort::default()
    };
    let labels = [
        ("k8s-app", NAME),
        ("kubernetes.io/cluster-service", "true"),
        ("kubernetes.io/name", "CoreDNS"),
    ];
    Service {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(NAMESPACE.into()),
            labels: Some(labels.map(|(k, v)| (k.into(), v.into())).into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some(address.to_string()),
            ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
