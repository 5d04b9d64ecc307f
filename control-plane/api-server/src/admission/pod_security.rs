//! PodSecurity: the Pod Security Standards, as the labels `pod-security.kubernetes.io/*` of a namespace ask for them.
//!
//! `enforce` refuses pods; `warn` (the same level unless set) tells the user, also about the templates of workloads.
//! Without labels everything is allowed, as upstream. The checks are those of the newest version, whichever a label
//! names.

mod checks;
mod policy;

use std::collections::BTreeMap;
use std::sync::Arc;

use api_machinery::{ObjectExt, Status, go_quote};
use async_trait::async_trait;
use serde_json::Value;

use super::forbid;
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

use checks::{Violation, violations};
use policy::{Level, Policy};

/// Pods that are looked at when a namespace becomes stricter.
const EXISTING_PODS_LIMIT: usize = 3000;

/// Kinds with a pod template: group, resource, where it is.
const TEMPLATES: [(&str, &str, &[&str]); 9] = [
    ("", "replicationcontrollers", &["spec", "template"]),
    ("", "podtemplates", &["template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
    (
        "batch",
        "cronjobs",
        &["spec", "jobTemplate", "spec", "template"],
    ),
    ("", "pods", &[]),
];

pub(super) struct PodSecurity {
    pub(super) reader: Arc<dyn ObjectReader>,
}

impl PodSecurity {
    fn policy(&self, namespace: &str, mode: &str) -> Policy {
        let namespace = self.reader.get("", "namespaces", "", namespace);
        namespace.map_or_else(Policy::default, |namespace| Policy::of(&namespace, mode))
    }

    /// What is wrong with the pod of a write under a mode's policy.
    fn violation(&self, attributes: &Attributes, mode: &str) -> Option<String> {
        let pod = pod_of(attributes)?;
        let policy = self.policy(&attributes.namespace, mode);
        let found = violations(policy.level, pod);
        let found: Vec<String> = found.iter().map(Violation::to_string).collect();
        (!found.is_empty()).then(|| {
            let policy = go_quote(&policy.to_string());
            format!("PodSecurity {policy}: {}", found.join(", "))
        })
    }

    /// Warnings about pods that a namespace's new policy would not let in.
    fn existing(&self, namespace: &Value, old: &Value) -> Vec<String> {
        let (new, old) = (Policy::of(namespace, "enforce"), Policy::of(old, "enforce"));
        if new == old
            || new.level == Level::Privileged
            || (new.version == old.version && new.level < old.level)
        {
            return Vec::new();
        }
        let pods = self.reader.list("", "pods", Some(namespace.name()));
        let mut by_reason: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for pod in pods.iter().take(EXISTING_PODS_LIMIT) {
            let reasons: Vec<String> = violations(new.level, pod)
                .into_iter()
                .map(|v| v.reason)
                .collect();
            if !reasons.is_empty() {
                by_reason
                    .entry(reasons.join(", "))
                    .or_insert_with(|| (pod.name().into(), 0))
                    .1 += 1;
            }
        }
        if by_reason.is_empty() {
            return Vec::new();
        }
        let mut warnings: Vec<String> = by_reason
            .into_iter()
            .map(|(reason, (pod, count))| match count {
                1 => format!("{pod}: {reason}"),
                2 => format!("{pod} (and 1 other pod): {reason}"),
                _ => format!("{pod} (and {} other pods): {reason}", count - 1),
            })
            .collect();
        warnings.sort();
        let (name, policy) = (go_quote(namespace.name()), go_quote(&new.to_string()));
        let head = format!(
            "existing pods in namespace {name} violate the new PodSecurity enforce level {policy}"
        );
        warnings.insert(0, head);
        warnings
    }
}

/// The pod (or template) of a write; none where nothing of it that counts can have changed.
fn pod_of(attributes: &Attributes) -> Option<&Value> {
    let (_, _, path) = TEMPLATES
        .iter()
        .find(|(group, resource, _)| attributes.is(group, resource))?;
    let pod = attributes.object.as_ref()?.field(path)?;
    let old = attributes.old.as_ref().and_then(|old| old.field(path));
    let same = old.is_some_and(|old| {
        old["spec"] == pod["spec"]
            && old["metadata"]["annotations"] == pod["metadata"]["annotations"]
    });
    (!same).then_some(pod)
}

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && (attributes.is("", "namespaces")
                || TEMPLATES
                    .iter()
                    .any(|(group, resource, _)| attributes.is(group, resource)))
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if attributes.resource == "namespaces" {
            if let (Some(namespace), Some(old)) = (&attributes.object, &attributes.old) {
                let warnings = self.existing(namespace, old);
                attributes.warnings.extend(warnings);
            }
        } else if let Some(warning) = self.violation(attributes, "warn") {
            attributes.warnings.push(format!("would violate {warning}"));
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        match attributes.resource.as_str() {
            "namespaces" => {
                let Some(namespace) = &attributes.object else {
                    return Ok(());
                };
                let errors = policy::label_errors(namespace);
                let known = attributes
                    .old
                    .as_ref()
                    .is_some_and(|old| policy::label_errors(old) == errors);
                if errors.is_empty() || known {
                    return Ok(());
                }
                Err(Status::invalid("", "Namespace", namespace.name(), &errors))
            }
            "pods" => match self.violation(attributes, "enforce") {
                Some(reason) => Err(forbid(attributes, format!("violates {reason}"))),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
