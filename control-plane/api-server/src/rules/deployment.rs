//! Deployments.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt};
use serde_json::{Map, Value};

use super::checks::{self, Errors, immutable, not_negative};
use super::values::{fill, fill_text, get_mut, map_in};
use super::{Rules, pod_checks, pod_defaults};

const COUNTS: [&str; 7] = [
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "collisionCount",
];
const CAPPED: [&str; 3] = ["updatedReplicas", "readyReplicas", "availableReplicas"];

pub(super) struct Deployment;

impl Rules for Deployment {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            fill(spec, "replicas", 1);
            fill(spec, "revisionHistoryLimit", 10);
            fill(spec, "progressDeadlineSeconds", 600);
            if let Some(strategy) = map_in(spec, "strategy") {
                fill_text(strategy, "type", "RollingUpdate");
                if strategy.text(&["type"]) == "RollingUpdate"
                    && let Some(rolling) = map_in(strategy, "rollingUpdate")
                {
                    fill(rolling, "maxUnavailable", "25%");
                    fill(rolling, "maxSurge", "25%");
                }
            }
        }
        pod_defaults::template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], Map::new());
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        // Annotations are copied to the replica sets, so a change of them is one of what is desired.
        if object.annotations() != old.annotations() {
            object.set(&["metadata", "generation"], old.generation() + 1);
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = object.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        not_negative(spec, "replicas", &path, errors);
        checks::workload_selector(spec, "deployment", &path, errors);
        pod_checks::long_running_template(spec, "ReplicaSet", &path, errors);
        strategy(spec, &path.child("strategy"), errors);
        not_negative(spec, "minReadySeconds", &path, errors);
        not_negative(spec, "revisionHistoryLimit", &path, errors);
        not_negative(spec, "progressDeadlineSeconds", &path, errors);
        let ready = spec.number(&["minReadySeconds"]).unwrap_or_default();
        if let Some(deadline) = spec
            .number(&["progressDeadlineSeconds"])
            .filter(|deadline| *deadline <= ready)
        {
            let detail = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid(
                &path.child("progressDeadlineSeconds"),
                deadline,
                detail,
            ));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(object, errors);
        immutable(object, old, &["spec", "selector"], errors);
    }

    fn validate_status_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        checks::replica_counts(object, &COUNTS, &CAPPED, errors);
        let collisions = |object: &Value| {
            object
                .number(&["status", "collisionCount"])
                .unwrap_or_default()
        };
        if collisions(object) < collisions(old) {
            let path = FieldPath::root("status.collisionCount");
            errors.push(FieldError::invalid(
                &path,
                collisions(object),
                "cannot be decremented",
            ));
        }
    }
}

fn strategy(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let Some(strategy) = spec.field(&["strategy"]) else {
        return;
    };
    let rolling = strategy.field(&["rollingUpdate"]);
    let rolling_path = path.child("rollingUpdate");
    match (strategy.text(&["type"]), rolling) {
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&rolling_path, detail));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            let detail = "this should be defaulted and never be nil";
            errors.push(FieldError::required(&rolling_path, detail));
        }
        ("RollingUpdate", Some(rolling)) => {
            let unavailable =
                checks::int_or_percent(rolling, "maxUnavailable", &rolling_path, errors);
            let surge = checks::int_or_percent(rolling, "maxSurge", &rolling_path, errors);
            let unavailable_path = rolling_path.child("maxUnavailable");
            if checks::is_zero(unavailable.as_ref()) && checks::is_zero(surge.as_ref()) {
                let value = rolling
                    .field(&["maxUnavailable"])
                    .cloned()
                    .unwrap_or(0.into());
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(&unavailable_path, value, detail));
            }
            checks::at_most_100_percent(unavailable.as_ref(), &unavailable_path, errors);
        }
        _ => {
            let supported = ["Recreate", "RollingUpdate"];
            errors.push(FieldError::not_supported(
                path,
                strategy.clone(),
                &supported,
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::check::{created, stored};

    fn deployment(strategy: Value) -> Value {
        json!({"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "strategy": strategy,
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}}})
    }

    #[test]
    fn defaults_are_upstreams() {
        let object = stored(&Deployment, deployment(Value::Null));
        let spec = &object["spec"];
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(
            (&spec["replicas"], &spec["revisionHistoryLimit"]),
            (&json!(1), &json!(10))
        );
        assert_eq!(
            spec["template"]["spec"]["schedulerName"],
            "default-scheduler"
        );
        assert_eq!(
            spec["template"]["spec"]["containers"][0]["imagePullPolicy"],
            "Always"
        );
    }

    #[test]
    fn strategies_are_checked() {
        assert_eq!(
            created(
                &Deployment,
                deployment(json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}))
            ),
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
            ]
        );
        assert_eq!(
            created(
                &Deployment,
                deployment(json!({"type": "Recreate", "rollingUpdate": {}}))
            ),
            [
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
            ]
        );
        assert_eq!(
            created(&Deployment, deployment(json!({"type": "Other"}))).len(),
            1
        );
    }
}
