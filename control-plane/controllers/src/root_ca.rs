//! The ConfigMap `kube-root-ca.crt` of every namespace: with it pods verify the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_client::{Informer, ObjectKey, is_already_exists};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::Outcome;
use crate::service_account::is_active_namespace;
use crate::support::{Meta, is_namespace_terminating};

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Keys are those of namespaces.
pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let namespaces = context.informer::<Namespace>();
    let config_maps = context.informer::<ConfigMap>();
    enqueue_on_change(&namespaces, queue);
    let keys = queue.clone();
    config_maps.on_change(move |change| {
        let map = change.object();
        if map.name() == NAME {
            keys.add(ObjectKey::new("", map.namespace()));
        }
    });
    Arc::new(RootCa {
        context: context.clone(),
        namespaces,
        config_maps,
    })
}

struct RootCa {
    context: Context,
    namespaces: Informer<Namespace>,
    config_maps: Informer<ConfigMap>,
}

#[async_trait]
impl Controller for RootCa {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        if !is_active_namespace(self.namespaces.get(key).as_deref()) {
            return Ok(());
        }
        let current = self.config_maps.get(&ObjectKey::new(&key.name, NAME));
        let Some(map) = corrected(
            &key.name,
            current.as_deref(),
            &self.context.options.root_ca_pem,
        ) else {
            return Ok(());
        };
        if current.is_some() {
            self.context.client.update(&map).await?;
            return Ok(());
        }
        match self.context.client.create(Some(&key.name), &map).await {
            Err(status) if !is_already_exists(&status) && !is_namespace_terminating(&status) => {
                Err(status.into())
            }
            _ => Ok(()),
        }
    }
}

/// The map as it should be; none if it is so already.
fn corrected(namespace: &str, current: Option<&ConfigMap>, root_ca: &str) -> Option<ConfigMap> {
    let data = BTreeMap::from([(FILE.to_owned(), root_ca.to_owned())]);
    let mut map = current.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(namespace.into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    if map.data.as_ref() == Some(&data) && map.annotation(DESCRIPTION_KEY).is_some() {
        return None;
    }
    map.data = Some(data);
    map.metadata
        .annotations
        .get_or_insert_default()
        .insert(DESCRIPTION_KEY.into(), DESCRIPTION.into());
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tampered_map_is_corrected() {
        let map = corrected("ns", None, "PEM").expect("new");
        assert_eq!(corrected("ns", Some(&map), "PEM"), None);
        assert!(corrected("ns", Some(&map), "OTHER").is_some());
        let tampered = ConfigMap {
            data: None,
            ..map.clone()
        };
        assert_eq!(corrected("ns", Some(&tampered), "PEM"), Some(map));
    }
}
