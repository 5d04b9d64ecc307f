//! Horizontal pod autoscalers (stored as v2) and `Scale`.

use serde_json::Value;

use super::cells::{self, NONE, UNKNOWN, UNSET};
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

const SHOWN_METRICS: usize = 2;

pub(super) static HORIZONTAL_POD_AUTOSCALER: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Reference", "What is scaled."),
        Column::text("Targets", "Measured and wanted values."),
        Column::text("MinPods", "Fewest pods that may be set."),
        Column::text("MaxPods", "Most pods that may be set."),
        Column::text("Replicas", "Pods that exist."),
        AGE,
    ],
    |object, now| {
        let target = |field: &str| object.text(&["spec", "scaleTargetRef", field]).to_owned();
        vec![
            cells::name(object),
            format!("{}/{}", target("kind"), target("name")).into(),
            metrics(object).into(),
            cells::shown_or(object, &["spec", "minReplicas"], UNSET).into(),
            cells::number(object, &["spec", "maxReplicas"]),
            cells::number(object, &["status", "currentReplicas"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static SCALE: ColumnSet = ColumnSet::new(
    &[
        Column::text("Name", "Name of what is scaled."),
        Column::integer("Desired", "Replicas that are wanted."),
        Column::integer("Available", "Replicas that exist."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::number(object, &["spec", "replicas"]),
            cells::number(object, &["status", "replicas"]),
            cells::age(object, now),
        ]
    },
);

fn metrics(object: &Value) -> String {
    let specs = object.list(&["spec", "metrics"]);
    if specs.is_empty() {
        return NONE.to_owned();
    }
    let statuses = object.list(&["status", "currentMetrics"]);
    let shown = specs
        .iter()
        .enumerate()
        .take(SHOWN_METRICS)
        .map(|(i, spec)| metric(spec, statuses.get(i)));
    let text = shown.collect::<Vec<_>>().join(", ");
    match specs.len() {
        count if count > SHOWN_METRICS => format!("{text} + {} more...", count - SHOWN_METRICS),
        _ => text,
    }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let (field, of_resource) = match spec.text(&["type"]) {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |name: &str| spec.field(&[field, "target", name]);
    let current = |name: &str| match status.and_then(|s| s.field(&[field])) {
        Some(status) => cells::shown_or(status, &["current", name], UNKNOWN),
        None => UNKNOWN.to_owned(),
    };
    let wanted = |name: &str| cells::shown_or(spec, &[field, "target", name], UNKNOWN);
    if of_resource {
        let name = spec.text(&[field, "name"]);
        if target("averageValue").is_some() {
            return format!(
                "{name}: {}/{}",
                current("averageValue"),
                wanted("averageValue")
            );
        }
        let percent = |text: String| {
            if text == UNKNOWN {
                text
            } else {
                format!("{text}%")
            }
        };
        let goal = match target("averageUtilization") {
            Some(goal) => format!("{goal}%"),
            None => "<auto>".to_owned(),
        };
        return format!("{name}: {}/{goal}", percent(current("averageUtilization")));
    }
    match (field, target("averageValue")) {
        ("pods", _) => format!("{}/{}", current("averageValue"), wanted("averageValue")),
        (_, Some(_)) => format!(
            "{}/{} (avg)",
            current("averageValue"),
            wanted("averageValue")
        ),
        (_, None) => format!("{}/{}", current("value"), wanted("value")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::check::check;
    use super::*;

    #[test]
    fn targets_are_measured_against() {
        let utilization = |percent: i32| json!({"averageUtilization": percent});
        let resource = |name: &str| json!({"type": "Resource", "resource": {"name": name, "target": utilization(50)}});
        check(
            &HORIZONTAL_POD_AUTOSCALER,
            json!({"metadata": {},
                "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 5, "minReplicas": 2,
                    "metrics": [resource("cpu"), resource("memory"), resource("x")]},
                "status": {"currentReplicas": 3, "currentMetrics": [{"type": "Resource", "resource": {"current": utilization(7)}}]}}),
            expect![
                "x | Deployment/web | cpu: 7%/50%, memory: <unknown>/50% + 1 more... | 2 | 5 | 3 | 10m"
            ],
        );
    }
}
