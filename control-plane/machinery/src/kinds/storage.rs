//! Volumes: `storage.k8s.io`.

use super::row::{cluster, namespaced};
use crate::kind::Kind;

const STORAGE: &str = "storage.k8s.io";

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        cluster(STORAGE, "CSIDriver", "csidrivers").keeps_generation(),
        cluster(STORAGE, "CSINode", "csinodes"),
        namespaced(STORAGE, "CSIStorageCapacity", "csistoragecapacities"),
        cluster(STORAGE, "StorageClass", "storageclasses").short(&["sc"]),
        cluster(STORAGE, "VolumeAttachment", "volumeattachments").status(),
        cluster(STORAGE, "VolumeAttributesClass", "volumeattributesclasses").short(&["vac"]),
    ]
}
