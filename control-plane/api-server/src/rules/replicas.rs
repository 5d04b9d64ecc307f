//! Replica sets and replication controllers.

use api_machinery::{FieldPath, LabelSelector, ObjectExt, ObjectMutExt};
use serde_json::{Value, json};

use super::checks::{self, Errors, immutable, not_negative};
use super::values::{fill, get_mut};
use super::{Rules, pod_checks, pod_defaults};

const COUNTS: [&str; 5] = [
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
];
const CAPPED: [&str; 3] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];

pub(super) struct ReplicaSet;

impl Rules for ReplicaSet {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            fill(spec, "replicas", 1);
        }
        pod_defaults::template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], json!({"replicas": 0}));
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = object.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        not_negative(spec, "replicas", &path, errors);
        not_negative(spec, "minReadySeconds", &path, errors);
        // Upstream's message names the deployment here too.
        checks::workload_selector(spec, "deployment", &path, errors);
        pod_checks::long_running_template(spec, "ReplicaSet", &path, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(object, errors);
        immutable(object, old, &["spec", "selector"], errors);
    }

    fn validate_status_update(&self, object: &Value, _old: &Value, errors: &mut Errors) {
        checks::replica_counts(object, &COUNTS, &CAPPED, errors);
    }
}

pub(super) struct ReplicationController;

impl Rules for ReplicationController {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            fill(spec, "replicas", 1);
        }
        pod_defaults::template(object, &["spec", "template"]);
        let Some(labels) = object
            .map(&["spec", "template", "metadata", "labels"])
            .cloned()
        else {
            return;
        };
        if object
            .map(&["spec", "selector"])
            .is_none_or(|selector| selector.is_empty())
        {
            object.set(&["spec", "selector"], labels.clone());
        }
        if object.labels().is_none_or(|own| own.is_empty()) {
            object.set(&["metadata", "labels"], labels);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], json!({"replicas": 0}));
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = object.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        not_negative(spec, "minReadySeconds", &path, errors);
        let selector = spec.map(&["selector"]);
        if selector.is_none_or(|selector| selector.is_empty()) {
            errors.push(api_machinery::FieldError::required(
                &path.child("selector"),
                "",
            ));
        }
        not_negative(spec, "replicas", &path, errors);
        if let Ok(selector) = LabelSelector::from_map(selector) {
            checks::template_matches(spec, &selector, &path, errors);
        }
        pod_checks::long_running_template(spec, "ReplicationController", &path, errors);
    }

    fn validate_status_update(&self, object: &Value, _old: &Value, errors: &mut Errors) {
        checks::replica_counts(object, &COUNTS, &CAPPED, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::{created, stored, updated};

    fn set(labels: Value, selector: Value) -> Value {
        json!({"metadata": {"name": "x"}, "spec": {"selector": selector,
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "i"}]}}}})
    }

    #[test]
    fn selectors_must_fit_and_stay() {
        let good = set(
            json!({"app": "web"}),
            json!({"matchLabels": {"app": "web"}}),
        );
        assert_eq!(created(&ReplicaSet, good.clone()), [""; 0]);
        let bad = set(json!({"app": "web"}), json!({"matchLabels": {"app": "db"}}));
        assert_eq!(
            created(&ReplicaSet, bad),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
            ]
        );
        let changed = set(
            json!({"app": "web", "b": "c"}),
            json!({"matchLabels": {"b": "c"}}),
        );
        assert_eq!(
            updated(&ReplicaSet, changed, &good),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"b\":\"c\"}}: field is immutable"]
        );
    }

    #[test]
    fn controllers_take_selector_and_labels_from_the_template() {
        let mut object = set(json!({"app": "web"}), Value::Null);
        object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
        let kept = stored(&ReplicationController, object.clone());
        assert_eq!(kept["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(kept["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(kept["spec"]["replicas"], 1);
        assert_eq!(
            created(&ReplicationController, object),
            [
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
            ]
        );
    }
}
