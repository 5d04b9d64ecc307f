//! Daemon sets.

use api_machinery::{FieldError, FieldPath, LabelSelector, ObjectExt, ObjectMutExt};
use serde_json::{Map, Value, json};

use super::checks::{self, Errors, immutable, not_negative};
use super::values::{fill, fill_text, get_mut, map_in};
use super::{Rules, pod_checks, pod_defaults};

/// Counts changes of the template; kept as an annotation since the field was retired.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const COUNTS: [&str; 8] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
];

pub(super) struct DaemonSet;

impl Rules for DaemonSet {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            if let Some(strategy) = map_in(spec, "updateStrategy") {
                fill_text(strategy, "type", "RollingUpdate");
                if strategy.text(&["type"]) == "RollingUpdate"
                    && let Some(rolling) = map_in(strategy, "rollingUpdate")
                {
                    fill(rolling, "maxUnavailable", 1);
                    fill(rolling, "maxSurge", 0);
                }
            }
            fill(spec, "revisionHistoryLimit", 10);
        }
        pod_defaults::template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["metadata", "annotations", TEMPLATE_GENERATION], "1");
        let zero = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
        ];
        let status: Map<String, Value> = zero
            .into_iter()
            .map(|field| (field.to_owned(), json!(0)))
            .collect();
        object.set(&["status"], status);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        let old_count = old
            .annotation(TEMPLATE_GENERATION)
            .and_then(|count| count.parse::<i64>().ok())
            .unwrap_or(1);
        let changed = object.field(&["spec", "template"]) != old.field(&["spec", "template"]);
        let count = old_count + i64::from(changed);
        object.set(
            &["metadata", "annotations", TEMPLATE_GENERATION],
            count.to_string(),
        );
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = object.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        let selector_path = path.child("selector");
        let selector = spec.field(&["selector"]);
        if let Some(selector) = selector {
            checks::label_selector(selector, &selector_path, errors);
        }
        if let Ok(parsed) = LabelSelector::from_object(selector) {
            let labels = spec.map(&["template", "metadata", "labels"]);
            if !parsed.matches(&labels) {
                let value = labels.cloned().map_or(Value::Null, Value::Object);
                let detail = "`selector` does not match template `labels`";
                errors.push(FieldError::invalid(
                    &path.child("template.metadata.labels"),
                    value,
                    detail,
                ));
            }
            if let Some(selector) = selector.filter(|_| parsed.is_everything()) {
                let detail = "empty selector is invalid for daemonset";
                errors.push(FieldError::invalid(
                    &selector_path,
                    selector.clone(),
                    detail,
                ));
            }
        }
        pod_checks::long_running_template(spec, "DaemonSet", &path, errors);
        not_negative(spec, "minReadySeconds", &path, errors);
        strategy(spec, &path.child("updateStrategy"), errors);
        not_negative(spec, "revisionHistoryLimit", &path, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        immutable(object, old, &["spec", "selector"], errors);
        self.validate_create(object, errors);
    }

    fn validate_status_update(&self, object: &Value, _old: &Value, errors: &mut Errors) {
        checks::replica_counts(object, &COUNTS, &[], errors);
    }
}

fn strategy(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let Some(strategy) = spec.field(&["updateStrategy"]) else {
        return;
    };
    match strategy.text(&["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            let Some(rolling) = strategy.field(&["rollingUpdate"]) else {
                errors.push(FieldError::required(&path, ""));
                return;
            };
            let (unavailable_path, surge_path) =
                (path.child("maxUnavailable"), path.child("maxSurge"));
            let unavailable = checks::int_or_percent(rolling, "maxUnavailable", &path, errors);
            let surge = checks::int_or_percent(rolling, "maxSurge", &path, errors);
            checks::at_most_100_percent(unavailable.as_ref(), &unavailable_path, errors);
            checks::at_most_100_percent(surge.as_ref(), &surge_path, errors);
            match (
                checks::is_zero(unavailable.as_ref()),
                checks::is_zero(surge.as_ref()),
            ) {
                (false, false) => {
                    let value = rolling.field(&["maxSurge"]).cloned().unwrap_or(Value::Null);
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(FieldError::invalid(&surge_path, value, detail));
                }
                (true, true) => {
                    errors.push(FieldError::required(
                        &unavailable_path,
                        "cannot be 0 when maxSurge is 0",
                    ));
                }
                _ => {}
            }
        }
        _ => {
            let supported = ["RollingUpdate", "OnDelete"];
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
    use super::*;
    use crate::rules::check::{created, stored};

    #[test]
    fn template_changes_are_counted() {
        let object = json!({"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}}});
        assert_eq!(created(&DaemonSet, object.clone()), [""; 0]);
        let old = stored(&DaemonSet, object);
        let mut new = old.clone();
        new["spec"]["minReadySeconds"] = 3.into();
        DaemonSet.prepare_update(&mut new, &old);
        assert_eq!(new.annotation(TEMPLATE_GENERATION), Some("1"));
        new["spec"]["template"]["metadata"]["labels"]["c"] = "d".into();
        DaemonSet.prepare_update(&mut new, &old);
        assert_eq!(new.annotation(TEMPLATE_GENERATION), Some("2"));
    }
}
