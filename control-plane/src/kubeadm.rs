//! What `kubeadm join` reads once it trusts the cluster: the ConfigMaps `kubeadm-config` and `kubelet-config` of
//! `kube-system`, in the form that `kubeadm init` gives them. Who may read them is in the bootstrap policy.

use std::net::IpAddr;

use api_client::Client;
use api_machinery::Status;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::config::ControlPlaneConfig;

const NAMESPACE: &str = "kube-system";

/// Makes what is missing. What is there stays as it is: people change the settings of their kubelets there.
///
/// # Errors
/// What the refused write says.
pub async fn ensure(
    client: &Client,
    config: &ControlPlaneConfig,
    server_url: &str,
) -> Result<(), Status> {
    for (name, key, text) in config_maps(config, server_url) {
        let object = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some([(key.to_owned(), text)].into()),
            ..ConfigMap::default()
        };
        match client.create(Some(NAMESPACE), &object).await {
            Err(status) if !status.is_already_exists() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

/// Name, key and content of each.
fn config_maps(
    config: &ControlPlaneConfig,
    server_url: &str,
) -> [(&'static str, &'static str, String); 2] {
    [
        (
            "kubeadm-config",
            "ClusterConfiguration",
            cluster_configuration(config, server_url),
        ),
        (
            "kubelet-config",
            "kubelet",
            kubelet_configuration(config.cluster_dns, &config.cluster_domain),
        ),
    ]
}

fn cluster_configuration(config: &ControlPlaneConfig, server_url: &str) -> String {
    let endpoint = server_url.trim_start_matches("https://");
    // kubeadm compares this with its own version, and knows no other build of it than Kubernetes'.
    let version = config.version.split('+').next().unwrap_or_default();
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
certificatesDir: /etc/kubernetes/pki
clusterName: kubernetes
controlPlaneEndpoint: {endpoint}
dns:
  disabled: true
kind: ClusterConfiguration
kubernetesVersion: {version}
networking:
  dnsDomain: {domain}
  podSubnet: {pods}
  serviceSubnet: {services}
proxy:
  disabled: true
",
        domain = config.cluster_domain,
        pods = config.cluster_cidr,
        services = config.service_cidr,
    )
}

/// What kubelets must have in common; kubeadm adds its defaults for the rest. They ask for serving certificates of the
/// cluster's CA, as the API server believes no others.
fn kubelet_configuration(cluster_dns: IpAddr, cluster_domain: &str) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
clusterDNS:
- {cluster_dns}
clusterDomain: {cluster_domain}
healthzBindAddress: 127.0.0.1
healthzPort: 10248
kind: KubeletConfiguration
rotateCertificates: true
serverTLSBootstrap: true
staticPodPath: /etc/kubernetes/manifests
"
    )
}
