//! What a pod refers to, read from its spec.

use serde_json::Value;

/// A kind of object that a node may see because a pod of its own needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ServiceAccount,
    ResourceClaim,
    Attachment,
    ResourceSlice,
}

/// Marks the API's picture of a pod that a node runs from a file: it must not open doors.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Whether a pod needs the object `name` of its own namespace.
pub(super) fn refers_to(pod: &Value, reference: Reference, name: &str) -> bool {
    if pod["metadata"]["annotations"]
        .get(MIRROR_ANNOTATION)
        .is_some()
    {
        return false;
    }
    let spec = &pod["spec"];
    match reference {
        Reference::Secret => {
            list(&spec["imagePullSecrets"]).any(|s| s["name"] == name)
                || environment(spec)
                    .any(|e| e["secretRef"]["name"] == name || e["secretKeyRef"]["name"] == name)
                || list(&spec["volumes"]).any(|v| volume_names(v, &SECRET_FIELDS, name))
        }
        Reference::ConfigMap => {
            environment(spec)
                .any(|e| e["configMapRef"]["name"] == name || e["configMapKeyRef"]["name"] == name)
                || list(&spec["volumes"]).any(|v| {
                    v["configMap"]["name"] == name
                        || list(&v["projected"]["sources"]).any(|s| s["configMap"]["name"] == name)
                })
        }
        Reference::Claim => list(&spec["volumes"]).any(|v| {
            v["persistentVolumeClaim"]["claimName"] == name
                || (v.get("ephemeral").is_some() && name == ephemeral_claim(pod, v))
        }),
        Reference::ServiceAccount => spec["serviceAccountName"] == name,
        Reference::ResourceClaim => {
            list(&spec["resourceClaims"]).any(|c| c["resourceClaimName"] == name)
                || list(&pod["status"]["resourceClaimStatuses"])
                    .any(|c| c["resourceClaimName"] == name)
        }
        Reference::Pod | Reference::Volume | Reference::Attachment | Reference::ResourceSlice => {
            false
        }
    }
}

/// Fields by which volume sources name a secret; either its name or an object with one.
const SECRET_FIELDS: [&str; 8] = [
    "secretName",
    "secretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
    "nodeExpandSecretRef",
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "secret",
];

/// Whether a PersistentVolume names a secret; without a namespace of its own it is the claim's.
pub(super) fn volume_names_secret(volume: &Value, namespace: &str, name: &str) -> bool {
    let spec = &volume["spec"];
    spec["claimRef"]["namespace"] == namespace && volume_names(spec, &SECRET_FIELDS, name)
}

/// Looks two levels deep: a volume's source and, for projected ones, its sources.
fn volume_names(volume: &Value, fields: &[&str], name: &str) -> bool {
    let named = |source: &Value| {
        fields
            .iter()
            .any(|f| source[f] == name || source[f]["name"] == name)
    };
    volume
        .as_object()
        .into_iter()
        .flatten()
        .any(|(_, source)| named(source) || list(&source["sources"]).any(named))
}

fn environment(spec: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| list(&spec[field]))
        .flat_map(|c| list(&c["envFrom"]).chain(list(&c["env"]).map(|e| &e["valueFrom"])))
}

fn ephemeral_claim(pod: &Value, volume: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    format!(
        "{}-{}",
        text(&pod["metadata"]["name"]),
        text(&volume["name"])
    )
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
