//! PodSecurity: the Pod Security Standards, as the labels `pod-security.kubernetes.io/*` of a namespace ask for them.
//!
//! `enforce` refuses pods; `warn` tells the user, also about the templates of workloads. Without labels everything is
//! allowed, as upstream. The checks are those of the newest version, whichever a label names.

mod checks;

use std::sync::Arc;

use api_machinery::{ObjectExt, Status, go_quote};
use async_trait::async_trait;
use serde_json::Value;

use super::forbid;
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

use checks::violations;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// A level of the standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

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
    /// The level that a mode asks for and how messages name it, e.g. `baseline:latest`.
    fn policy(&self, namespace: &str, mode: &str) -> (Level, String) {
        let namespace = self.reader.get("", "namespaces", "", namespace);
        let label = |name: &str| {
            let key = format!("{PREFIX}{name}");
            namespace
                .as_ref()
                .map(|n| n.text(&["metadata", "labels", &key]).to_owned())
                .unwrap_or_default()
        };
        let name = label(mode);
        let level = match name.as_str() {
            "" | "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            // One that is not known is taken as the strictest.
            _ => Level::Restricted,
        };
        let version = Some(label(&format!("{mode}-version"))).filter(|v| !v.is_empty());
        (
            level,
            format!("{name}:{}", version.as_deref().unwrap_or("latest")),
        )
    }

    /// What is wrong with a pod under a mode's policy.
    fn violation(&self, namespace: &str, mode: &str, pod: &Value) -> Option<String> {
        let (level, name) = self.policy(namespace, mode);
        let found = violations(level, pod);
        (!found.is_empty())
            .then(|| format!("PodSecurity {}: {}", go_quote(&name), found.join(", ")))
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
            && TEMPLATES
                .iter()
                .any(|(group, resource, _)| attributes.is(group, resource))
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let warning =
            pod_of(attributes).and_then(|pod| self.violation(&attributes.namespace, "warn", pod));
        if let Some(warning) = warning {
            attributes.warnings.push(format!("would violate {warning}"));
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        if attributes.resource != "pods" {
            return Ok(());
        }
        let found = pod_of(attributes)
            .and_then(|pod| self.violation(&attributes.namespace, "enforce", pod));
        found.map_or(Ok(()), |reason| {
            Err(forbid(attributes, format!("violates {reason}")))
        })
    }
}
