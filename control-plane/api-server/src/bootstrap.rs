//! What every cluster has from its first moment: namespaces, priority classes, the service network, the `kubernetes`
//! Service. Made at every start where it is missing.

use api_client::{Backend, Call, User, Verb};
use api_machinery::Status;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

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
    for (path, object) in objects(core) {
        ensure(&backend, path, &object).await?;
    }
    Ok(())
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
    objects
}

async fn ensure(backend: &impl Backend, path: &str, object: &Value) -> Result<(), Status> {
    let call = Call {
        user: itself(),
        verb: Verb::Post,
        path: path.into(),
        content_type: "application/json",
        body: Bytes::from(object.to_string()),
        fence: None,
    };
    match backend.call(call).await {
        Err(status) if !status.is_already_exists() => Err(status),
        _ => Ok(()),
    }
}
