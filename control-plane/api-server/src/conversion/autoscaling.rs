//! `autoscaling/v1` over the stored `v2`: one CPU percentage in place of a list of metrics.
//!
//! What `v1` has no field for travels in the annotations that Kubernetes uses for it.

use api_machinery::{ObjectExt, ObjectMutExt};
use serde_json::{Map, Value, json};

use super::Conversion;

pub(super) const V1: Conversion = Conversion {
    to_stored,
    from_stored,
};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// The percentage of `v1`, in objects of `v2`.
const PERCENTAGE: [&str; 2] = ["spec", "targetCPUUtilizationPercentage"];

fn is_cpu_utilization(metric: &Value) -> bool {
    metric.text(&["type"]) == "Resource"
        && metric.text(&["resource", "name"]) == "cpu"
        && metric
            .number(&["resource", "target", "averageUtilization"])
            .is_some()
}

fn cpu_metric(percentage: Value) -> Value {
    json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percentage},
    }})
}

/// Takes JSON out of an annotation.
fn unpack(object: &mut Value, annotation: &str) -> Option<Value> {
    let text = object.remove_field(&["metadata", "annotations", annotation])?;
    serde_json::from_str(text.as_str()?).ok()
}

fn pack(object: &mut Value, annotation: &str, value: Option<Value>) {
    let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty) || v.is_null();
    if let Some(value) = value.filter(|v| !empty(v)) {
        object.set(&["metadata", "annotations", annotation], value.to_string());
    }
}

fn to_stored(object: &mut Value) {
    let mut metrics = match unpack(object, METRICS) {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    if let Some(percentage) = object.remove_field(&PERCENTAGE) {
        metrics.push(cpu_metric(percentage));
    }
    if metrics.is_empty() {
        metrics.push(cpu_metric(80.into()));
    }
    object.set(&["spec", "metrics"], metrics);
    if let Some(behavior) = unpack(object, BEHAVIOR) {
        object.set(&["spec", "behavior"], behavior);
    }
    object.remove_field(&["status", "currentCPUUtilizationPercentage"]);
    for (annotation, field) in [
        (CURRENT_METRICS, "currentMetrics"),
        (CONDITIONS, "conditions"),
    ] {
        if let Some(value) = unpack(object, annotation) {
            object.set(&["status", field], value);
        }
    }
    drop_empty_annotations(object);
    object.set(&["apiVersion"], "autoscaling/v2");
}

fn from_stored(object: &mut Value) {
    let metrics = match object.remove_field(&["spec", "metrics"]) {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    let (cpu, others): (Vec<Value>, Vec<Value>) = metrics.into_iter().partition(is_cpu_utilization);
    if let Some(percentage) = cpu
        .first()
        .and_then(|m| m.field(&["resource", "target", "averageUtilization"]))
    {
        object.set(&PERCENTAGE, percentage.clone());
    }
    pack(object, METRICS, Some(Value::Array(others)));
    let behavior = object.remove_field(&["spec", "behavior"]);
    pack(object, BEHAVIOR, behavior);
    let current = object.remove_field(&["status", "currentMetrics"]);
    let cpu = current
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find_map(|m| {
            (m.text(&["resource", "name"]) == "cpu")
                .then(|| m.field(&["resource", "current", "averageUtilization"]))?
        });
    if let Some(percentage) = cpu.cloned() {
        object.set(&["status", "currentCPUUtilizationPercentage"], percentage);
    }
    pack(object, CURRENT_METRICS, current);
    let conditions = object.remove_field(&["status", "conditions"]);
    pack(object, CONDITIONS, conditions);
    object.set(&["apiVersion"], "autoscaling/v1");
}

fn drop_empty_annotations(object: &mut Value) {
    if object.annotations().is_some_and(Map::is_empty) {
        object.remove_field(&["metadata", "annotations"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_v2_is_lost_through_v1() {
        let stored = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "a"}, "spec": {
            "maxReplicas": 3,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": "m"}}}, cpu_metric(50.into())],
            "behavior": {"scaleDown": {"policies": []}},
        }, "status": {"conditions": [{"type": "AbleToScale"}]}});
        let mut object = stored.clone();
        from_stored(&mut object);
        assert_eq!(
            object["spec"],
            json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50})
        );
        to_stored(&mut object);
        assert_eq!(object, stored);
    }
}
