//! The volume claims of a stateful set's pods, and who owns them under the set's retention policy. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::identity::ordinal;
use crate::support::{Meta, owner_reference};

pub(super) fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec
        .as_ref()
        .and_then(|s| s.volume_claim_templates.as_deref())
        .unwrap_or_default()
}

pub(super) fn name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name())
}

/// The claims that the pod mounts, as they are to be created.
pub(super) fn of_pod(set: &StatefulSet, pod: &Pod) -> Vec<PersistentVolumeClaim> {
    let Some(ordinal) = ordinal(set, pod) else {
        return Vec::new();
    };
    let selected = set
        .spec
        .as_ref()
        .and_then(|s| s.selector.match_labels.clone())
        .unwrap_or_default();
    templates(set)
        .iter()
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(name(set, template.name(), ordinal));
            claim.metadata.namespace = set.metadata.namespace.clone();
            claim
                .metadata
                .labels
                .get_or_insert_default()
                .extend(selected.clone());
            claim.status = None;
            if deletes(set).0 {
                claim.metadata.owner_references = Some(vec![owner_reference(set)]);
            }
            claim
        })
        .collect()
}

/// Whether claims go with the set, and whether they go when their ordinal is scaled away.
fn deletes(set: &StatefulSet) -> (bool, bool) {
    let policy = set
        .spec
        .as_ref()
        .and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
    let delete = |value: Option<&String>| value.is_some_and(|v| v == "Delete");
    policy.map_or((false, false), |p| {
        (
            delete(p.when_deleted.as_ref()),
            delete(p.when_scaled.as_ref()),
        )
    })
}

/// The claim with the owners that the policy asks for; none if it has them. `condemned`: the ordinal is being removed.
pub(super) fn with_owner(
    set: &StatefulSet,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
    condemned: bool,
) -> Option<PersistentVolumeClaim> {
    let (when_deleted, when_scaled) = deletes(set);
    let by_pod = when_scaled && condemned;
    let by_set = when_deleted && !by_pod;
    let current = claim.metadata.owner_references.clone().unwrap_or_default();
    let ours = |r: &OwnerReference| r.uid == set.uid() || r.uid == pod.uid();
    let mut wanted: Vec<OwnerReference> = current.iter().filter(|r| !ours(r)).cloned().collect();
    if by_set {
        wanted.push(owner_reference(set));
    }
    if by_pod {
        wanted.push(owner_reference(pod));
    }
    let uids = |all: &[OwnerReference]| all.iter().map(|r| r.uid.clone()).collect::<Vec<_>>();
    if uids(&wanted) == uids(&current) {
        return None;
    }
    let mut changed = claim.clone();
    changed.metadata.owner_references = Some(wanted).filter(|all| !all.is_empty());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_retention_policy_decides_who_owns_a_claim() {
        let check = |deleted: &str, scaled: &str, condemned, expect: &[&str]| {
            let set: StatefulSet = serde_json::from_value(json!({"metadata": {"name": "db", "uid": "set"},
                "spec": {"selector": {}, "template": {},
                    "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}}))
            .expect("a stateful set");
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"name": "db-0", "uid": "pod"}}))
                    .expect("a pod");
            let claim = PersistentVolumeClaim::default();
            let owners =
                with_owner(&set, &pod, &claim, condemned).and_then(|c| c.metadata.owner_references);
            let uids: Vec<_> = owners.iter().flatten().map(|r| r.uid.as_str()).collect();
            assert_eq!(uids, expect, "{deleted} {scaled} {condemned}");
        };
        check("Retain", "Retain", true, &[]);
        check("Delete", "Retain", false, &["set"]);
        check("Delete", "Delete", false, &["set"]);
        check("Delete", "Delete", true, &["pod"]);
        check("Retain", "Delete", false, &[]);
        check("Retain", "Delete", true, &["pod"]);
    }
}
