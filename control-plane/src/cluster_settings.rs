//! The ConfigMap `kube-system/xebec-config`: what agents that join must know of the cluster to set themselves up.

use api_client::Client;
use api_machinery::Status;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::config::ControlPlaneConfig;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "xebec-config";

/// Makes the object, or brings it up to date with this server's flags.
///
/// # Errors
/// What the refused write says.
pub async fn ensure(
    client: &Client,
    config: &ControlPlaneConfig,
    ca_pem: &str,
) -> Result<(), Status> {
    let wanted = settings(config, ca_pem);
    match client.get::<ConfigMap>(Some(NAMESPACE), NAME).await {
        Ok(found) if found.data == wanted.data => Ok(()),
        Ok(mut found) => {
            found.data = wanted.data;
            client.update(&found).await.map(drop)
        }
        Err(status) if status.is_not_found() => match client.create(Some(NAMESPACE), &wanted).await
        {
            // Another master was faster.
            Err(status) if status.is_already_exists() => Ok(()),
            answer => answer.map(drop),
        },
        Err(status) => Err(status),
    }
}

fn settings(config: &ControlPlaneConfig, ca_pem: &str) -> ConfigMap {
    let data = [
        ("cluster-cidr", config.cluster_cidr.clone()),
        ("service-cidr", config.service_cidr.clone()),
        ("cluster-dns", config.cluster_dns.to_string()),
        ("cluster-domain", config.cluster_domain.clone()),
        // Agents follow it when it is changed.
        ("cluster-ca", ca_pem.to_owned()),
    ];
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..ConfigMap::default()
    }
}
