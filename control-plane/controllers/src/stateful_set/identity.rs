//! What the pod of an ordinal looks like: name, labels, host name, volumes. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::claims;
use crate::support::{Meta, owner_reference, pod_from_template};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in the pod's name; none if the name is not one of this set.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let digits = pod.name().strip_prefix(set.name())?.strip_prefix('-')?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

pub(super) fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, ordinal: i32) -> Pod {
    let mut pod = pod_from_template(template, set.namespace(), owner_reference(set));
    let name = format!("{}-{ordinal}", set.name());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set
        .spec
        .as_ref()
        .and_then(|s| s.service_name.clone())
        .filter(|name| !name.is_empty());
    pod.metadata.name = Some(name);
    apply(set, &mut pod, ordinal);
    pod
}

/// Puts back what makes the pod this ordinal's.
pub(super) fn apply(set: &StatefulSet, pod: &mut Pod, ordinal: i32) {
    let name = pod.name().to_owned();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), name);
    labels.insert(POD_INDEX.into(), ordinal.to_string());
    let templates: Vec<String> = claims::templates(set)
        .iter()
        .map(|t| t.name().to_owned())
        .collect();
    let spec = pod.spec.get_or_insert_default();
    let mut volumes: Vec<Volume> = templates
        .iter()
        .map(|template| Volume {
            name: template.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claims::name(set, template, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    let others = spec.volumes.take().unwrap_or_default();
    volumes.extend(
        others
            .into_iter()
            .filter(|volume| !templates.contains(&volume.name)),
    );
    spec.volumes = Some(volumes).filter(|all| !all.is_empty());
}

/// Whether the labels are those of the ordinal; the rest of an identity cannot be changed once the pod exists.
pub(super) fn matches(set: &StatefulSet, pod: &Pod) -> bool {
    let Some(ordinal) = ordinal(set, pod) else {
        return false;
    };
    let label = |key: &str| pod.labels().get(key).map(String::as_str);
    label(POD_NAME) == Some(pod.name()) && label(POD_INDEX) == Some(ordinal.to_string().as_str())
}
