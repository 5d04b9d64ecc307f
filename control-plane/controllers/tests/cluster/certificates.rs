//! Certificate requests: approved and signed for the node that asks, refused to others.

use crate::agent;
use crate::fixture::Cluster;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

fn request(name: &str, signer: &str, purpose: &str, names: &[&str]) -> CertificateSigningRequest {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(
        rcgen::DnType::CommonName,
        format!("system:node:{}", agent::NODE),
    );
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    let pem = params
        .serialize_request(&key)
        .expect("signed")
        .pem()
        .expect("PEM");
    let mut request = CertificateSigningRequest::default();
    request.metadata.name = Some(name.into());
    request.spec.request = k8s_openapi::ByteString(pem.into_bytes());
    request.spec.signer_name = signer.into();
    request.spec.usages = Some(vec!["digital signature".into(), purpose.into()]);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_the_certificates_it_asks_for() {
    let cluster = Cluster::start().await;
    cluster.eventually::<Node>("", agent::NODE, |_| true).await;
    let addresses =
        json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    cluster
        .client
        .patch::<Node>(
            None,
            agent::NODE,
            "status",
            &api_client::Patch::Merge(addresses),
        )
        .await
        .expect("addresses");
    let node = cluster
        .client
        .as_user(std::sync::Arc::new(api_client::User {
            name: format!("system:node:{}", agent::NODE),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
        }));
    let client = request(
        "client",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "client auth",
        &[],
    );
    let serving = request(
        "serving",
        "kubernetes.io/kubelet-serving",
        "server auth",
        &[agent::NODE, "10.0.0.1"],
    );
    let foreign = request(
        "foreign",
        "kubernetes.io/kubelet-serving",
        "server auth",
        &["kubernetes"],
    );
    for request in [client, serving, foreign] {
        node.create(None, &request).await.expect("asked");
    }
    let issued = |request: &CertificateSigningRequest| {
        let certificate = request.status.as_ref().and_then(|s| s.certificate.as_ref());
        certificate.is_some_and(|c| c.0.starts_with(b"-----BEGIN CERTIFICATE-----"))
    };
    cluster
        .eventually::<CertificateSigningRequest>("", "client", issued)
        .await;
    cluster
        .eventually::<CertificateSigningRequest>("", "serving", issued)
        .await;
    let foreign: CertificateSigningRequest =
        cluster.client.get(None, "foreign").await.expect("there");
    assert!(
        foreign.status.is_none_or(|s| s.conditions.is_none()),
        "not under another's name"
    );
    cluster.stop().await;
}
