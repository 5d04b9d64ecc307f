//! What every cluster has from its first moment: namespaces, priority classes, the service network, the `kubernetes`
//! Service. Made at every start where it is missing.

use api_client::{Backend, Call, User, Verb};
use api_machinery::{ObjectExt, Status};
use bytes::Bytes;
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::allocation;
use crate::core::Core;

/// The API server itself, as its own client.
fn itself() -> Arc<User> {
    Arc::new(User {
        name: "system:apiserver".into(),
        groups: vec!["system:masters".into(), "system:authenticated".into()],
    })
}

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing.
///
/// # Errors
/// What the first refused write says.
pub(crate) async fn run(core: &Arc<Core>) -> Result<(), Status> {
    let backend = crate::backend::CoreBackend::default();
    backend.fill(core.clone());
    // Together, so that the store can flush them together; namespaces first, because the others live in them.
    let (namespaces, others): (Vec<_>, Vec<_>) = objects(core)
        .into_iter()
        .partition(|(_, object)| object.kind() == "Namespace");
    for wave in [namespaces, others] {
        try_join_all(
            wave.iter()
                .map(|(path, object)| ensure(&backend, path, object)),
        )
        .await?;
    }
    let endpoints = own_endpoints(core);
    try_join_all(
        endpoints
            .iter()
            .map(|(path, object)| ensure(&backend, path, object)),
    )
    .await?;
    Ok(())
}

/// Where the first API server is found under the Service `kubernetes`; later ones, and changes, are for whoever leads.
fn own_endpoints(core: &Core) -> Vec<(&'static str, Value)> {
    let address = core.settings.advertise_address;
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        // Endpoints may not be such an address: only this machine could use it.
        tracing::warn!(%address, "the API server is not advertised to pods");
        return Vec::new();
    }
    let port = json!({"name": "https", "port": address.port(), "protocol": "TCP"});
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    vec![
        (
            "/api/v1/namespaces/default/endpoints",
            json!({
                "apiVersion": "v1", "kind": "Endpoints",
                "metadata": {
                    "name": "kubernetes", "namespace": "default",
                    "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
                },
                "subsets": [{"addresses": [{"ip": address.ip().to_string()}], "ports": [port]}],
            }),
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": "kubernetes", "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "kubernetes"},
                },
                "addressType": family,
                "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
                "ports": [port],
            }),
        ),
    ]
}

/// A read costs the store less than a create that fails.
async fn exists(backend: &impl Backend, path: &str) -> Result<bool, Status> {
    match write(backend, Verb::Get, path.to_owned(), &Value::Null).await {
        Ok(()) => Ok(true),
        Err(status) if status.is_not_found() => Ok(false),
        Err(status) => Err(status),
    }
}

fn objects(core: &Core) -> Vec<(&'static str, Value)> {
    let mut objects = Vec::new();
    for name in NAMESPACES {
        objects.push((
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        ));
    }
    for (name, value, about) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        objects.push(("/apis/scheduling.k8s.io/v1/priorityclasses", json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": about,
        })));
    }
    let (network, length) = core.settings.service_cidr;
    objects.push(("/apis/networking.k8s.io/v1/servicecidrs", json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [format!("{network}/{length}")]},
    })));
    objects.push(("/api/v1/namespaces/default/services", json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": allocation::first_address(core).to_string(),
            "ports": [{
                "name": "https", "port": 443, "protocol": "TCP", "targetPort": core.settings.advertise_address.port(),
            }],
        },
    })));
    objects
}

async fn ensure(backend: &impl Backend, path: &str, object: &Value) -> Result<(), Status> {
    if exists(backend, &format!("{path}/{}", object.name())).await? {
        return Ok(());
    }
    match write(backend, Verb::Post, path.to_owned(), object).await {
        Err(status) if !status.is_already_exists() => Err(status),
        _ => Ok(()),
    }
}

async fn write(
    backend: &impl Backend,
    verb: Verb,
    path: String,
    object: &Value,
) -> Result<(), Status> {
    let body = Bytes::from(object.to_string());
    let call = Call {
        user: itself(),
        verb,
        path,
        content_type: "application/json",
        body,
        fence: None,
    };
    backend.call(call).await.map(drop)
}
