//! Defaults of volumes, and of the claims and volumes behind them.

use serde_json::{Map, Value};

use super::pod_defaults::pull_policy;
use super::values::{each, fill, fill_text, get_mut};

/// Mode of files from ConfigMaps, Secrets and the like: 0644.
const FILE_MODE: i64 = 0o644;
/// Life of a projected token in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// Defaults of one volume of a pod.
pub(super) fn volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|map| map.iter().any(|(k, v)| k != "name" && !v.is_null()));
    if !has_source {
        fill(volume, "emptyDir", Map::new());
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = get_mut(volume, &[source]) {
            fill(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = get_mut(volume, &["downwardAPI"]) {
        downward_items(source);
    }
    if let Some(projected) = get_mut(volume, &["projected"]) {
        for source in each(projected, "sources") {
            if let Some(token) = get_mut(source, &["serviceAccountToken"]) {
                fill(token, "expirationSeconds", TOKEN_SECONDS);
            }
            if let Some(downward) = get_mut(source, &["downwardAPI"]) {
                downward_items(downward);
            }
        }
    }
    if let Some(host_path) = get_mut(volume, &["hostPath"]) {
        fill(host_path, "type", "");
    }
    if let Some(claim) = get_mut(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        fill_text(claim, "volumeMode", "Filesystem");
    }
    if let Some(image) = get_mut(volume, &["image"]) {
        let policy = pull_policy(
            image
                .get("reference")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
        fill_text(image, "pullPolicy", policy);
    }
    old_sources(volume);
}

fn downward_items(source: &mut Value) {
    for item in each(source, "items") {
        if let Some(reference) = get_mut(item, &["fieldRef"]) {
            fill_text(reference, "apiVersion", "v1");
        }
        if let Some(reference) = get_mut(item, &["resourceFieldRef"]) {
            fill(reference, "divisor", "0");
        }
    }
}

/// Sources that pods and PersistentVolumes share and that only migrated drivers still read.
pub(super) fn old_sources(holder: &mut Value) {
    if let Some(iscsi) = get_mut(holder, &["iscsi"]) {
        fill_text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = get_mut(holder, &["rbd"]) {
        fill_text(rbd, "pool", "rbd");
        fill_text(rbd, "user", "admin");
        fill_text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = get_mut(holder, &["azureDisk"]) {
        fill_text(disk, "cachingMode", "ReadWrite");
        fill_text(disk, "kind", "Shared");
        fill_text(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
    }
    if let Some(scale_io) = get_mut(holder, &["scaleIO"]) {
        fill_text(scale_io, "storageMode", "ThinProvisioned");
        fill_text(scale_io, "fsType", "xfs");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_are_completed() {
        for (mut input, expected) in [
            (json!({"name": "v"}), json!({"name": "v", "emptyDir": {}})),
            (
                json!({"name": "v", "secret": {}}),
                json!({"name": "v", "secret": {"defaultMode": 420}}),
            ),
            (
                json!({"name": "v", "hostPath": {"path": "/"}}),
                json!({"name": "v", "hostPath": {"path": "/", "type": ""}}),
            ),
            (
                json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
                json!({"name": "v", "projected": {"defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}),
            ),
        ] {
            volume(&mut input);
            assert_eq!(input, expected);
        }
    }
}
