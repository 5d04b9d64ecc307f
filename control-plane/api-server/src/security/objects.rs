//! What of security the cluster keeps as objects, made or brought up to date at every start: the default roles and
//! bindings, and the CAs that aggregated API servers and joining nodes look for.

use std::sync::Arc;

use api_client::{Client, Verb};
use api_machinery::{ObjectExt, Status};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use crate::pki::{Pki, cluster_info, with_ca};
use crate::plugin::ObjectReader;
use crate::rbac::{BootstrapObject, aggregated_rules, bootstrap_objects, reconciled};

/// Objects that are written at the same time, so that the store can flush them together.
const CONCURRENT: usize = 32;
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Makes what is missing and corrects what is out of date. `client` must be a superuser's.
///
/// # Errors
/// What the first refused write says.
pub async fn ensure_security_objects(
    client: &Client,
    reader: &Arc<dyn ObjectReader>,
    pki: &Pki,
    server_url: &str,
) -> Result<(), Status> {
    let policy = with_aggregated_rules(bootstrap_objects());
    futures::stream::iter(policy)
        .map(|wanted| async move { ensure_policy(client, &**reader, &wanted).await })
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await?;
    let authentication = config_map(
        "kube-system",
        "extension-apiserver-authentication",
        authentication_data(pki),
    );
    ensure_config_map(client, &**reader, &authentication).await?;
    ensure_cluster_info(client, &**reader, server_url, &pki.ca_pem()).await?;
    // Whoever starts next is judged by the caches: they must have seen the roles.
    reader
        .get_latest("", "namespaces", "", "default")
        .await
        .map(drop)
}

/// Gives aggregated roles their rules at once, so that they are good before the controller has run.
fn with_aggregated_rules(mut objects: Vec<BootstrapObject>) -> Vec<BootstrapObject> {
    let is_role = |o: &BootstrapObject| o.resource == "clusterroles";
    loop {
        let roles: Vec<Arc<Value>> = objects
            .iter()
            .filter(|o| is_role(o))
            .map(|o| Arc::new(o.object.clone()))
            .collect();
        let mut changed = false;
        for role in objects.iter_mut().filter(|o| is_role(o)) {
            if let Some(rules) = aggregated_rules(&role.object, &roles) {
                role.object["rules"] = json!(rules);
                changed = true;
            }
        }
        if !changed {
            return objects;
        }
    }
}

async fn ensure_policy(
    client: &Client,
    reader: &dyn ObjectReader,
    wanted: &BootstrapObject,
) -> Result<(), Status> {
    let collection = match wanted.namespace.as_str() {
        "" => format!("{RBAC}/{}", wanted.resource),
        namespace => format!("{RBAC}/namespaces/{namespace}/{}", wanted.resource),
    };
    let held = reader.get(
        "rbac.authorization.k8s.io",
        wanted.resource,
        &wanted.namespace,
        &wanted.name,
    );
    match held {
        None => create(client, collection, &wanted.object).await,
        Some(held) => match reconciled(&wanted.object, &held) {
            Some(object) => replace(client, format!("{collection}/{}", wanted.name), &object).await,
            None => Ok(()),
        },
    }
}

fn config_map(namespace: &str, name: &str, data: Value) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"namespace": namespace, "name": name},
        "data": data,
    })
}

/// What aggregated API servers need to know to believe the front proxy and clients' certificates.
fn authentication_data(pki: &Pki) -> Value {
    json!({
        "client-ca-file": pki.ca_pem(),
        "requestheader-allowed-names": "[\"front-proxy-client\"]",
        "requestheader-client-ca-file": pki.front_proxy_ca_pem(),
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
        "requestheader-username-headers": "[\"X-Remote-User\"]",
    })
}

/// One that is there keeps what it says but for the CA, and what was signed.
async fn ensure_cluster_info(
    client: &Client,
    reader: &dyn ObjectReader,
    server_url: &str,
    ca_pem: &str,
) -> Result<(), Status> {
    let (namespace, name) = ("kube-public", "cluster-info");
    let held = reader.get("", "configmaps", namespace, name);
    let text = held.as_ref().and_then(|o| o["data"]["kubeconfig"].as_str());
    let text = match text {
        Some(text) => with_ca(text, ca_pem),
        None => cluster_info(server_url, ca_pem),
    };
    let mut data = held.map_or(json!({}), |o| o["data"].clone());
    data["kubeconfig"] = text.into();
    ensure_config_map(client, reader, &config_map(namespace, name, data)).await
}

async fn ensure_config_map(
    client: &Client,
    reader: &dyn ObjectReader,
    wanted: &Value,
) -> Result<(), Status> {
    let path = format!("/api/v1/namespaces/{}/configmaps", wanted.namespace());
    match reader.get("", "configmaps", wanted.namespace(), wanted.name()) {
        None => create(client, path, wanted).await,
        Some(held) if held["data"] == wanted["data"] => Ok(()),
        Some(held) => {
            let mut object = (*held).clone();
            object["data"] = wanted["data"].clone();
            replace(client, format!("{path}/{}", wanted.name()), &object).await
        }
    }
}

async fn create(client: &Client, path: String, object: &Value) -> Result<(), Status> {
    match client
        .raw(
            Verb::Post,
            path,
            "application/json",
            Bytes::from(object.to_string()),
        )
        .await
    {
        // Another server was faster.
        Err(status) if !status.is_already_exists() => Err(status),
        _ => Ok(()),
    }
}

async fn replace(client: &Client, path: String, object: &Value) -> Result<(), Status> {
    match client
        .raw(
            Verb::Put,
            path,
            "application/json",
            Bytes::from(object.to_string()),
        )
        .await
    {
        Err(status) if !status.is_conflict() => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Calls, Objects};

    #[tokio::test]
    async fn missing_objects_are_made_and_kept_ones_left_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let pki = crate::testing::pki(directory.path());
        let objects = Arc::new(Objects::default());
        let reader: Arc<dyn ObjectReader> = objects.clone();
        let calls = Arc::new(Calls::default());
        let client = Client::new(calls.clone(), super::super::itself());
        ensure_security_objects(&client, &reader, &pki, "https://x")
            .await
            .expect("made");
        let made = calls.take();
        assert_eq!(made.len(), bootstrap_objects().len() + 2);
        let admin = made
            .iter()
            .find(|(_, o)| o.name() == "admin" && o.kind() == "ClusterRole")
            .expect("admin");
        assert!(admin.1.list(&["rules"]).len() > 20, "aggregated at once");
        for (path, object) in made {
            let plural = path.rsplit('/').next().expect("plural").to_owned();
            let group = if path.starts_with("/apis/") {
                "rbac.authorization.k8s.io"
            } else {
                ""
            };
            objects.put(group, &plural, object);
        }
        ensure_security_objects(&client, &reader, &pki, "https://x")
            .await
            .expect("nothing to do");
        assert_eq!(calls.take(), []);
    }
}
