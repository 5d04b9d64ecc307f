//! Which ConfigMaps and Secrets a pod's definition refers to. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use crate::pod::spec;

/// Names in the pod's own namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// All that the pod refers to.
pub(crate) fn references(pod: &Pod) -> References {
    let mut found = References::default();
    for container in spec::all_containers(pod) {
        for from in container.env_from.iter().flatten() {
            found
                .config_maps
                .extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
            found
                .secrets
                .extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
        }
        for source in container
            .env
            .iter()
            .flatten()
            .filter_map(|v| v.value_from.as_ref())
        {
            found
                .config_maps
                .extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
            found
                .secrets
                .extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
        }
    }
    for volume in spec::volumes(pod) {
        found
            .config_maps
            .extend(volume.config_map.as_ref().map(|v| v.name.clone()));
        found
            .secrets
            .extend(volume.secret.as_ref().and_then(|v| v.secret_name.clone()));
        for source in volume
            .projected
            .iter()
            .flat_map(|p| p.sources.iter().flatten())
        {
            found
                .config_maps
                .extend(source.config_map.as_ref().map(|s| s.name.clone()));
            found
                .secrets
                .extend(source.secret.as_ref().map(|s| s.name.clone()));
        }
    }
    let pull = pod
        .spec
        .iter()
        .flat_map(|s| s.image_pull_secrets.iter().flatten());
    found.secrets.extend(pull.map(|r| r.name.clone()));
    found.secrets.remove("");
    found.config_maps.remove("");
    found
}
