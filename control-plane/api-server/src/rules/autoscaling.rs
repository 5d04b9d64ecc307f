//! Horizontal pod autoscalers, in their stored version v2.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt};
use serde_json::{Value, json};

use super::Rules;
use super::checks::Errors;
use super::values::{fill, get_mut, map_in};

pub(super) struct HorizontalPodAutoscaler;

impl Rules for HorizontalPodAutoscaler {
    fn default(&self, object: &mut Value) {
        let Some(spec) = get_mut(object, &["spec"]) else {
            return;
        };
        fill(spec, "minReplicas", 1);
        if spec.list(&["metrics"]).is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            spec.set(
                &["metrics"],
                json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
            );
        }
        let Some(behavior) = get_mut(spec, &["behavior"]) else {
            return;
        };
        if let Some(up) = map_in(behavior, "scaleUp") {
            fill(up, "selectPolicy", "Max");
            fill(up, "stabilizationWindowSeconds", 0);
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            fill(
                up,
                "policies",
                json!([pods, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
            );
        }
        if let Some(down) = map_in(behavior, "scaleDown") {
            fill(down, "selectPolicy", "Max");
            fill(
                down,
                "policies",
                json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
            );
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(
            &["status"],
            json!({"desiredReplicas": 0, "currentMetrics": null}),
        );
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("spec");
        let number = |field: &str| object.number(&["spec", field]).unwrap_or_default();
        if number("minReplicas") < 1 {
            let detail = "must be greater than or equal to 1";
            errors.push(FieldError::invalid(
                &path.child("minReplicas"),
                number("minReplicas"),
                detail,
            ));
        }
        if number("maxReplicas") < 1 {
            let detail = "must be greater than 0";
            errors.push(FieldError::invalid(
                &path.child("maxReplicas"),
                number("maxReplicas"),
                detail,
            ));
        }
        if number("maxReplicas") < number("minReplicas") {
            let detail = "must be greater than or equal to `minReplicas`";
            errors.push(FieldError::invalid(
                &path.child("maxReplicas"),
                number("maxReplicas"),
                detail,
            ));
        }
        let target = path.child("scaleTargetRef");
        for field in ["kind", "name"] {
            if object.text(&["spec", "scaleTargetRef", field]).is_empty() {
                errors.push(FieldError::required(&target.child(field), ""));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::created;

    #[test]
    fn bounds_are_ordered() {
        let scaler = json!({"metadata": {}, "spec": {"minReplicas": 3, "maxReplicas": 2,
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
        assert_eq!(
            created(&HorizontalPodAutoscaler, scaler),
            ["spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`"]
        );
    }
}
