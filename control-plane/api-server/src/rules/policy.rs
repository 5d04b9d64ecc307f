//! Limits on what may happen: disruption budgets, priority classes, limit ranges, quotas.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt, Quantity};
use serde_json::{Value, json};

use super::Rules;
use super::checks::{self, Errors, immutable, one_of_if_set};
use super::values::{each, fill, fill_entries, get_mut};

/// The highest priority that users may give.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";

pub(super) struct PodDisruptionBudget;

impl Rules for PodDisruptionBudget {
    fn prepare_create(&self, object: &mut Value) {
        let status = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        object.set(&["status"], status);
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = object.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        if spec.field(&["minAvailable"]).is_some() && spec.field(&["maxUnavailable"]).is_some() {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(&path, spec.clone(), detail));
        }
        for field in ["minAvailable", "maxUnavailable"] {
            let value = checks::int_or_percent(spec, field, &path, errors);
            checks::at_most_100_percent(value.as_ref(), &path.child(field), errors);
        }
        if let Some(selector) = spec.field(&["selector"]) {
            checks::label_selector(selector, &path.child("selector"), errors);
        }
        one_of_if_set(
            spec,
            "unhealthyPodEvictionPolicy",
            &["AlwaysAllow", "IfHealthyBudget"],
            &path,
            errors,
        );
    }

    fn validate_status_update(&self, object: &Value, _old: &Value, errors: &mut Errors) {
        let fields = [
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ];
        checks::replica_counts(object, &fields, &[], errors);
    }
}

pub(super) struct PriorityClass;

impl Rules for PriorityClass {
    fn default(&self, object: &mut Value) {
        fill(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let value = object.number(&["value"]).unwrap_or_default();
        let system = ["system-cluster-critical", "system-node-critical"].contains(&object.name());
        if object.name().starts_with(SYSTEM_PREFIX) && !system {
            let detail = "priority class names with 'system-' prefix are reserved for system use only. error: only system \
                          priority classes are allowed";
            errors.push(FieldError::forbidden(
                &FieldPath::root("metadata.name"),
                detail,
            ));
        } else if value > HIGHEST_USER_PRIORITY && !system {
            let detail = format!(
                "maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
            );
            errors.push(FieldError::forbidden(&FieldPath::root("value"), detail));
        }
        let supported = ["Never", "PreemptLowerPriority"];
        let root = FieldPath::root("");
        one_of_if_set(object, "preemptionPolicy", &supported, &root, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        if object.number(&["value"]).unwrap_or_default()
            != old.number(&["value"]).unwrap_or_default()
        {
            errors.push(FieldError::forbidden(
                &FieldPath::root("value"),
                "may not be changed in an update.",
            ));
        }
        immutable(object, old, &["preemptionPolicy"], errors);
    }
}

pub(super) struct LimitRange;

impl Rules for LimitRange {
    fn default(&self, object: &mut Value) {
        let Some(spec) = get_mut(object, &["spec"]) else {
            return;
        };
        for limit in each(spec, "limits").filter(|limit| limit.text(&["type"]) == "Container") {
            fill_entries(limit, "max", "default");
            fill_entries(limit, "default", "defaultRequest");
            fill_entries(limit, "min", "defaultRequest");
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let root = FieldPath::root("spec");
        let list = root.child("limits");
        for (i, limit) in object.list(&["spec", "limits"]).iter().enumerate() {
            let path = list.index(i);
            if limit.text(&["type"]).is_empty() {
                errors.push(FieldError::required(&path.child("type"), ""));
            }
            ordered(limit, "min", "max", &path, errors);
            ordered(limit, "min", "default", &path, errors);
            ordered(limit, "default", "max", &path, errors);
            ordered(limit, "min", "defaultRequest", &path, errors);
            ordered(limit, "defaultRequest", "max", &path, errors);
            ordered(limit, "defaultRequest", "default", &path, errors);
        }
    }
}

/// Amounts in one field must not exceed those in another.
fn ordered(limit: &Value, lower: &str, upper: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let amount = |value: &Value| Quantity::parse(value.as_str()?).ok();
    for (name, value) in limit.map(&[lower]).into_iter().flatten() {
        let above = limit.field(&[upper, name]);
        if let (Some(low), Some(high)) = (amount(value), above.and_then(amount))
            && low > high
        {
            let words = |field: &str| match field {
                "defaultRequest" => "default request",
                "min" => "min",
                "max" => "max",
                _ => "default",
            };
            let detail = format!(
                "{} value {low} is greater than {} value {high}",
                words(lower),
                words(upper)
            );
            let field = path.child(lower);
            errors.push(FieldError::invalid(
                &field.key(name),
                low.to_string(),
                detail,
            ));
        }
    }
}

pub(super) struct ResourceQuota;

impl Rules for ResourceQuota {
    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("spec.hard");
        for (name, value) in object.map(&["spec", "hard"]).into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            if Quantity::parse(text).is_ok_and(|amount| amount.sign() < 0) {
                let detail = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(&path.key(name), text, detail));
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(object, errors);
        immutable(object, old, &["spec", "scopes"], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::{created, stored};

    #[test]
    fn budgets_are_checked() {
        let budget = |spec: Value| json!({"metadata": {"name": "b"}, "spec": spec});
        assert_eq!(
            created(
                &PodDisruptionBudget,
                budget(json!({"maxUnavailable": "30%"}))
            ),
            [""; 0]
        );
        assert_eq!(
            created(
                &PodDisruptionBudget,
                budget(json!({"maxUnavailable": 1, "minAvailable": 1}))
            ),
            [
                "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set"
            ]
        );
        assert_eq!(
            created(
                &PodDisruptionBudget,
                budget(json!({"minAvailable": "130%"}))
            ),
            ["spec.minAvailable: Invalid value: \"130%\": must not be greater than 100%"]
        );
    }

    #[test]
    fn limits_fill_each_other() {
        let range = json!({"metadata": {}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
        let kept = stored(&LimitRange, range);
        assert_eq!(
            kept["spec"]["limits"][0],
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"cpu": "2"},
                "defaultRequest": {"cpu": "2", "memory": "1Mi"}})
        );
    }
}
