//! ControllerRevisions: the remembered pod templates of a DaemonSet or StatefulSet, for rolling updates and undo.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_client::{Client, DeleteOptions, Informer, Kind, is_already_exists, is_not_found};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use super::{Meta, computed_hash, controller_of, owner_reference};
use crate::error::{Error, Outcome};

/// Label on pods and revisions: which revision a pod was made from.
pub(crate) const REVISION_HASH: &str = "controller-revision-hash";
/// Longest prefix of a revision's name.
const NAME_PREFIX_LIMIT: usize = 223;

/// The template as a revision keeps it: a patch of the owner that puts the template back.
pub(crate) fn revision_data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// All revisions of `owner`, oldest first.
pub(crate) fn revisions_of<O: Kind>(
    revisions: &Informer<ControllerRevision>,
    owner: &O,
) -> Vec<Arc<ControllerRevision>> {
    let mut all = revisions.by_owner(Meta::uid(owner));
    all.retain(|r| controller_of(r.as_ref()).is_some_and(|c| c.uid == Meta::uid(owner)));
    all.sort_by(|a, b| {
        a.revision
            .cmp(&b.revision)
            .then_with(|| a.name().cmp(b.name()))
    });
    all
}

/// The revision of the owner's current template and whether the owner's collision count has to be raised first.
pub(crate) enum Current {
    Revision(Arc<ControllerRevision>),
    Collision,
}

/// Finds or makes the revision for `template`. A revision that is not the newest becomes so (an undo).
pub(crate) async fn ensure_current<O: Kind>(
    client: &Client,
    owner: &O,
    template: &PodTemplateSpec,
    collision_count: Option<i32>,
    all: &[Arc<ControllerRevision>],
) -> Outcome<Current> {
    let data = revision_data(template);
    let same = |r: &&Arc<ControllerRevision>| r.data.as_ref().is_some_and(|d| d.0 == data);
    let highest = all.last().map_or(0, |r| r.revision);
    if let Some(found) = all.iter().rev().find(same) {
        if found.revision == highest {
            return Ok(Current::Revision(found.clone()));
        }
        let raised = ControllerRevision {
            revision: highest + 1,
            ..(**found).clone()
        };
        return Ok(Current::Revision(Arc::new(client.update(&raised).await?)));
    }
    let revision = new_revision(owner, template, data, collision_count, highest + 1);
    match client.create(Some(Meta::namespace(owner)), &revision).await {
        Ok(created) => Ok(Current::Revision(Arc::new(created))),
        Err(status) if is_already_exists(&status) => {
            let existing: ControllerRevision = client
                .get(Some(Meta::namespace(owner)), revision.name())
                .await?;
            if existing.data == revision.data {
                Ok(Current::Revision(Arc::new(existing)))
            } else {
                Ok(Current::Collision)
            }
        }
        Err(status) => Err(status.into()),
    }
}

fn new_revision<O: Kind>(
    owner: &O,
    template: &PodTemplateSpec,
    data: Value,
    collision_count: Option<i32>,
    revision: i64,
) -> ControllerRevision {
    let hash = computed_hash(template, collision_count);
    let prefix: String = Meta::name(owner).chars().take(NAME_PREFIX_LIMIT).collect();
    let mut labels: BTreeMap<String, String> = template
        .metadata
        .as_ref()
        .and_then(|m| m.labels.clone())
        .unwrap_or_default();
    labels.insert(REVISION_HASH.into(), hash.clone());
    labels.insert("controller.kubernetes.io/hash".into(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{prefix}-{hash}")),
            namespace: Some(Meta::namespace(owner).into()),
            labels: Some(labels),
            owner_references: Some(vec![owner_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision,
    }
}

/// The hash by which pods name the revision.
pub(crate) fn revision_hash(revision: &ControllerRevision) -> &str {
    revision
        .labels()
        .get(REVISION_HASH)
        .map_or_else(|| revision.name(), String::as_str)
}

/// Deletes the oldest revisions beyond `limit` that are not in use.
pub(crate) async fn truncate_history(
    client: &Client,
    all: &[Arc<ControllerRevision>],
    limit: i32,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Outcome {
    let unused: Vec<_> = all.iter().filter(|r| !in_use(r)).collect();
    let surplus = unused
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in unused.into_iter().take(surplus) {
        let options = DeleteOptions {
            uid: revision.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        match client
            .delete::<ControllerRevision>(Some(revision.namespace()), revision.name(), &options)
            .await
        {
            Err(status) if !is_not_found(&status) => return Err(Error::Api(status)),
            _ => {}
        }
    }
    Ok(())
}

/// The template that a revision remembers.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision
        .data
        .as_ref()?
        .0
        .get("spec")?
        .get("template")?
        .clone();
    template.as_object_mut()?.shift_remove("$patch");
    serde_json::from_value(template).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DaemonSet;

    #[test]
    fn a_revision_remembers_the_template() {
        let set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"name": "logs", "namespace": "ns", "uid": "u"},
            "spec": {"selector": {}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        }))
        .expect("a daemon set");
        let template = set.spec.as_ref().expect("a spec").template.clone();
        let revision = new_revision(&set, &template, revision_data(&template), None, 3);
        assert_eq!(template_of(&revision), Some(template.clone()));
        assert_eq!(
            revision.name(),
            format!("logs-{}", revision_hash(&revision))
        );
        assert_eq!(
            revision.data.as_ref().expect("data").0["spec"]["template"]["$patch"],
            "replace"
        );
        assert_ne!(
            new_revision(&set, &template, Value::Null, Some(1), 3).name(),
            revision.name()
        );
    }
}
