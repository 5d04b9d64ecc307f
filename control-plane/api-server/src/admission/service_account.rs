//! ServiceAccount: every pod acts as a service account, and gets its token, the cluster's CA and its namespace in a
//! volume of its own.

use std::sync::Arc;
use std::time::Duration;

use api_machinery::{ObjectExt, Status, generate_name};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{forbid, push};
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// A token that lives on for a year if it was asked for with this (see the token request).
const TOKEN_SECONDS: i64 = 3607;
/// The default account of a new namespace is made by a controller that may be a moment behind.
const DEFAULT_ATTEMPTS: u32 = 10;
const DEFAULT_INTERVAL: Duration = Duration::from_millis(150);

pub(super) struct ServiceAccount {
    pub(super) reader: Arc<dyn ObjectReader>,
}

impl ServiceAccount {
    async fn find(&self, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        if let Some(account) = self.reader.get("", "serviceaccounts", namespace, name) {
            return Ok(account);
        }
        let attempts = if name == DEFAULT { DEFAULT_ATTEMPTS } else { 1 };
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(DEFAULT_INTERVAL).await;
            }
            if let Some(account) = self
                .reader
                .get_latest("", "serviceaccounts", namespace, name)
                .await?
            {
                return Ok(account);
            }
        }
        Err(Status::not_found("", "serviceaccount", name))
    }
}

#[async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is("", "pods") && attributes.operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(pod) = &attributes.object else {
            return Ok(());
        };
        if is_mirror(pod) {
            return Ok(());
        }
        let name = match pod.text(&["spec", "serviceAccountName"]) {
            "" => DEFAULT.to_owned(),
            name => name.to_owned(),
        };
        let account = self
            .find(&attributes.namespace, &name)
            .await
            .map_err(|error| {
                forbid(
                    attributes,
                    format!(
                        "error looking up service account {}/{name}: {error}",
                        attributes.namespace
                    ),
                )
            })?;
        let Some(pod) = &mut attributes.object else {
            return Ok(());
        };
        pod["spec"]["serviceAccountName"] = name.as_str().into();
        // The old name of the field says the same.
        pod["spec"]["serviceAccount"] = name.into();
        let wanted = pod["spec"]["automountServiceAccountToken"].as_bool();
        if wanted
            .or(account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true)
        {
            mount_token(pod);
        }
        let secrets = account.list(&["imagePullSecrets"]);
        if pod.list(&["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
            pod["spec"]["imagePullSecrets"] =
                secrets.iter().map(|s| json!({"name": s["name"]})).collect();
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(pod) = &attributes.object else {
            return Ok(());
        };
        if is_mirror(pod) {
            return check_mirror(pod).map_err(|reason| forbid(attributes, reason));
        }
        Ok(())
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod.field(&["metadata", "annotations", MIRROR_ANNOTATION])
        .is_some()
}

fn check_mirror(pod: &Value) -> Result<(), &'static str> {
    if !pod.text(&["spec", "serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    let text = pod["spec"].to_string();
    let names_secret = [
        "\"secretKeyRef\"",
        "\"secretRef\"",
        "\"secretName\"",
        "\"imagePullSecrets\"",
    ];
    if names_secret.iter().any(|field| text.contains(field)) {
        return Err("a mirror pod may not reference secrets");
    }
    let sources = pod
        .list(&["spec", "volumes"])
        .iter()
        .flat_map(|v| v.list(&["projected", "sources"]));
    if sources
        .into_iter()
        .any(|s| s.get("serviceAccountToken").is_some())
    {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn mount_token(pod: &mut Value) {
    let volumes = pod.list(&["spec", "volumes"]);
    let existing = volumes
        .iter()
        .map(|v| v.text(&["name"]))
        .find(|name| name.starts_with(VOLUME_PREFIX));
    let has_volume = existing.is_some();
    let volume = existing.map_or_else(
        || generate_name(VOLUME_PREFIX, rand::random()),
        String::from,
    );
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        for container in pod["spec"]
            .get_mut(field)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if !container
                .list(&["volumeMounts"])
                .iter()
                .any(|m| m["mountPath"] == MOUNT_PATH)
            {
                push(&mut container["volumeMounts"], mount.clone());
                mounted = true;
            }
        }
    }
    if mounted && !has_volume {
        push(
            &mut pod["spec"]["volumes"],
            json!({"name": volume, "projected": token_volume()}),
        );
    }
}

fn token_volume() -> Value {
    json!({
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
            ]}},
        ],
        "defaultMode": 420,
    })
}
