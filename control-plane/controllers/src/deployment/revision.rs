//! Which replica set is the current one, how it is made, and how revisions are counted in annotations. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::plan::{max_surge, new_replicas, size, wanted};
use crate::error::Outcome;
use crate::support::{Meta, computed_hash, owner_reference};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const NOT_COPIED: [&str; 6] = [
    LAST_APPLIED,
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    ROLLBACK_TO,
];
/// Label that tells the sets of one deployment apart.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Longest list of former revisions, in characters.
const HISTORY_LIMIT: usize = 2000;
/// Longest name of an object.
const NAME_LIMIT: usize = 253;

/// The set of the current template (the oldest, should there be several) and all others.
pub(super) fn split(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
) -> (Option<ReplicaSet>, Vec<ReplicaSet>) {
    let mut sets: Vec<ReplicaSet> = sets.iter().map(|s| (**s).clone()).collect();
    sets.sort_by(|a, b| {
        a.created()
            .cmp(&b.created())
            .then_with(|| a.name().cmp(b.name()))
    });
    let new = sets
        .iter()
        .position(|set| is_of(set, deployment))
        .map(|at| sets.remove(at));
    (new, sets)
}

/// Whether the set's template is the deployment's, the hash label aside.
pub(super) fn is_of(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let (Some(set), Some(deployment)) = (
        set.spec.as_ref().and_then(|s| s.template.as_ref()),
        &deployment.spec,
    ) else {
        return false;
    };
    set.spec == deployment.template.spec
        && plain_metadata(set) == plain_metadata(&deployment.template)
}

fn plain_metadata(template: &PodTemplateSpec) -> ObjectMeta {
    let mut metadata = template.metadata.clone().unwrap_or_default();
    metadata
        .labels
        .get_or_insert_default()
        .remove(TEMPLATE_HASH);
    metadata.annotations.get_or_insert_default();
    metadata
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    set.annotation(REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

pub(super) fn highest(sets: &[ReplicaSet]) -> i64 {
    sets.iter().map(revision).max().unwrap_or(0)
}

/// The set for the deployment's template, ready to be created.
pub(super) fn new_replica_set(deployment: &Deployment, old: &[ReplicaSet]) -> Outcome<ReplicaSet> {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collision_count = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = computed_hash(&spec.template, collision_count);
    let mut template = spec.template;
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(TEMPLATE_HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector
        .match_labels
        .get_or_insert_default()
        .insert(TEMPLATE_HASH.into(), hash.clone());
    let longest = NAME_LIMIT - 1 - hash.len();
    let name: String = deployment.name().chars().take(longest).collect();
    let existing = old.iter().map(size).sum();
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            owner_references: Some(vec![owner_reference(deployment)]),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(new_replicas(deployment, existing, 0)?),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotate(deployment, annotations, highest(old) + 1);
    annotate_replicas(deployment, annotations);
    Ok(set)
}

/// The existing new set with annotations and minReadySeconds as they should be; none if they are.
pub(super) fn synced(deployment: &Deployment, set: &ReplicaSet, next: i64) -> Option<ReplicaSet> {
    let mut changed = set.clone();
    annotate(
        deployment,
        changed.metadata.annotations.get_or_insert_default(),
        next,
    );
    if let (Some(set), Some(deployment)) = (&mut changed.spec, &deployment.spec)
        && set.min_ready_seconds.unwrap_or(0) != deployment.min_ready_seconds.unwrap_or(0)
    {
        set.min_ready_seconds = deployment.min_ready_seconds;
    }
    if set.metadata.annotations.is_none()
        && changed
            .metadata
            .annotations
            .as_ref()
            .is_some_and(BTreeMap::is_empty)
    {
        changed.metadata.annotations = None;
    }
    (changed != *set).then_some(changed)
}

/// The set with another size; none if neither size nor annotations change.
pub(super) fn scaled(deployment: &Deployment, set: &ReplicaSet, to: i32) -> Option<ReplicaSet> {
    let mut changed = set.clone();
    annotate_replicas(
        deployment,
        changed.metadata.annotations.get_or_insert_default(),
    );
    changed.spec.as_mut()?.replicas = Some(to);
    (changed != *set).then_some(changed)
}

fn annotate_replicas(deployment: &Deployment, annotations: &mut BTreeMap<String, String>) {
    let wanted = wanted(deployment);
    annotations.insert(DESIRED_REPLICAS.into(), wanted.to_string());
    annotations.insert(
        MAX_REPLICAS.into(),
        (wanted + max_surge(deployment)).to_string(),
    );
}

/// Copies the deployment's annotations and raises the revision to `next`, remembering the former one.
fn annotate(deployment: &Deployment, annotations: &mut BTreeMap<String, String>, next: i64) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let former = annotations.get(REVISION).cloned();
    let Ok(current) = former.as_deref().unwrap_or("0").parse::<i64>() else {
        return;
    };
    if current >= next {
        return;
    }
    annotations.insert(REVISION.into(), next.to_string());
    if let Some(former) = former {
        let history = annotations.get(REVISION_HISTORY).map_or("", String::as_str);
        annotations.insert(REVISION_HISTORY.into(), appended(history, &former));
    }
}

/// The list of former revisions with one more, its oldest entries dropped when it grows too long.
fn appended(history: &str, revision: &str) -> String {
    let mut entries: Vec<&str> = history
        .split(',')
        .filter(|entry| !entry.is_empty())
        .collect();
    entries.push(revision);
    let mut from = 0;
    while from + 1 < entries.len() && entries[from..].join(",").len() > HISTORY_LIMIT {
        from += 1;
    }
    entries[from..].join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment() -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "d", "annotations": {"note": "x", LAST_APPLIED: "{}"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        }))
        .expect("a deployment")
    }

    #[test]
    fn a_new_set_is_recognized_and_carries_its_hash_everywhere() {
        let deployment = deployment();
        let set = new_replica_set(&deployment, &[]).expect("valid");
        assert!(is_of(&set, &deployment));
        let hash = set.labels()[TEMPLATE_HASH].clone();
        assert_eq!(set.name(), format!("web-{hash}"));
        let spec = set.spec.as_ref().expect("a spec");
        assert_eq!(
            spec.selector.match_labels.as_ref().expect("labels")[TEMPLATE_HASH],
            hash
        );
        let annotations = set.metadata.annotations.clone().expect("annotations");
        let text: Vec<_> = annotations
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(
            text,
            [
                "deployment.kubernetes.io/desired-replicas=3",
                "deployment.kubernetes.io/max-replicas=4",
                "deployment.kubernetes.io/revision=1",
                "note=x"
            ]
        );
        assert_eq!(spec.replicas, Some(3));
        let mut other = deployment.clone();
        other
            .spec
            .as_mut()
            .expect("a spec")
            .template
            .spec
            .as_mut()
            .expect("a spec")
            .containers[0]
            .image = Some("j".into());
        assert!(!is_of(&set, &other));
        assert_ne!(
            new_replica_set(&other, &[]).expect("valid").name(),
            set.name()
        );
    }

    #[test]
    fn an_undo_raises_the_revision_and_remembers_the_former() {
        let deployment = deployment();
        let set = new_replica_set(&deployment, &[]).expect("valid");
        assert_eq!(synced(&deployment, &set, 1), None, "nothing to do");
        let raised = synced(&deployment, &set, 3).expect("a change");
        assert_eq!(revision(&raised), 3);
        assert_eq!(raised.annotation(REVISION_HISTORY), Some("1"));
        let again = synced(&deployment, &raised, 5).expect("a change");
        assert_eq!(again.annotation(REVISION_HISTORY), Some("1,3"));
    }
}
