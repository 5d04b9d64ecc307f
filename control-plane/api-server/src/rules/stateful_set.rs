//! Stateful sets.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt, dns_label_errors};
use serde_json::{Map, Value, json};

use super::checks::{self, Errors, invalid_each, not_negative};
use super::values::{each, fill, fill_text, get_mut, map_in};
use super::{Rules, pod_checks, pod_defaults};

const CHANGEABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];
const COUNTS: [&str; 5] = [
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
];
const CAPPED: [&str; 4] = [
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
];

pub(super) struct StatefulSet;

impl Rules for StatefulSet {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            fill_text(spec, "podManagementPolicy", "OrderedReady");
            update_strategy(spec);
            if let Some(policy) = map_in(spec, "persistentVolumeClaimRetentionPolicy") {
                fill_text(policy, "whenDeleted", "Retain");
                fill_text(policy, "whenScaled", "Retain");
            }
            fill(spec, "replicas", 1);
            fill(spec, "revisionHistoryLimit", 10);
            for claim in each(spec, "volumeClaimTemplates") {
                fill(claim, "apiVersion", "v1");
                fill(claim, "kind", "PersistentVolumeClaim");
                super::volume::claim_defaults(claim);
            }
        }
        pod_defaults::template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], json!({"replicas": 0, "availableReplicas": 0}));
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("spec");
        let service = object.text(&["spec", "serviceName"]);
        if !service.is_empty() {
            invalid_each(
                &path.child("serviceName"),
                service,
                dns_label_errors(service),
                errors,
            );
        }
        validate(object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        validate(object, errors);
        let fixed = |object: &Value| {
            let mut spec = object.map(&["spec"]).cloned().unwrap_or_default();
            spec.retain(|field, _| !CHANGEABLE.contains(&field.as_str()));
            spec
        };
        if fixed(object) != fixed(old) {
            let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                          'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden(&FieldPath::root("spec"), detail));
        }
    }

    fn validate_status_update(&self, object: &Value, _old: &Value, errors: &mut Errors) {
        checks::replica_counts(object, &COUNTS, &CAPPED, errors);
    }
}

fn update_strategy(spec: &mut Value) {
    let Some(strategy) = map_in(spec, "updateStrategy") else {
        return;
    };
    if strategy.text(&["type"]).is_empty() {
        fill_text(strategy, "type", "RollingUpdate");
        fill(strategy, "rollingUpdate", Map::new());
    }
    if strategy.text(&["type"]) == "RollingUpdate"
        && let Some(rolling) = get_mut(strategy, &["rollingUpdate"])
    {
        fill(rolling, "partition", 0);
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = object.field(&["spec"]).unwrap_or(&empty);
    let path = FieldPath::root("spec");
    let policy = spec.text(&["podManagementPolicy"]);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.push(FieldError::invalid(
            &path.child("podManagementPolicy"),
            policy,
            detail,
        ));
    }
    strategy(spec, &path.child("updateStrategy"), errors);
    let retention = path.child("persistentVolumeClaimRetentionPolicy");
    if let Some(policy) = spec.field(&["persistentVolumeClaimRetentionPolicy"]) {
        for field in ["whenDeleted", "whenScaled"] {
            checks::one_of(policy, field, &["Retain", "Delete"], &retention, errors);
        }
    }
    not_negative(spec, "replicas", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    not_negative(spec, "revisionHistoryLimit", &path, errors);
    if let Some(start) = spec
        .number(&["ordinals", "start"])
        .filter(|start| *start < 0)
    {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            &path.child("ordinals.start"),
            start,
            detail,
        ));
    }
    checks::workload_selector(spec, "statefulset", &path, errors);
    pod_checks::long_running_template(&with_claims(spec), "StatefulSet", &path, errors);
}

fn strategy(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let Some(strategy) = spec.field(&["updateStrategy"]) else {
        return;
    };
    let rolling = strategy.field(&["rollingUpdate"]);
    let rolling_path = path.child("rollingUpdate");
    match (strategy.text(&["type"]), rolling) {
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(&rolling_path, rolling.clone(), detail));
        }
        ("RollingUpdate", Some(rolling)) => {
            not_negative(rolling, "partition", &rolling_path, errors);
            let unavailable =
                checks::int_or_percent(rolling, "maxUnavailable", &rolling_path, errors);
            checks::at_most_100_percent(
                unavailable.as_ref(),
                &rolling_path.child("maxUnavailable"),
                errors,
            );
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, strategy.clone(), detail));
        }
    }
}

/// The spec with a volume for every claim template, so that mounts of them are found.
fn with_claims(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let claims: Vec<String> = spec
        .list(&["volumeClaimTemplates"])
        .iter()
        .map(|claim| claim.name().to_owned())
        .collect();
    if claims.is_empty() || spec.field(&["template", "spec"]).is_none() {
        return spec;
    }
    let own = spec.list(&["template", "spec", "volumes"]).iter();
    let own: Vec<Value> = own
        .filter(|volume| !claims.iter().any(|c| c == volume.text(&["name"])))
        .cloned()
        .collect();
    let volumes = claims
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let volumes: Vec<Value> = volumes.chain(own).collect();
    spec.set(&["template", "spec", "volumes"], volumes);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::{created, updated};

    fn set(extra: Value) -> Value {
        let mut object = json!({"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "serviceName": "s",
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}}});
        for (key, value) in extra.as_object().expect("a map") {
            object["spec"][key] = value.clone();
        }
        object
    }

    #[test]
    fn most_of_the_spec_is_fixed() {
        assert_eq!(created(&StatefulSet, set(json!({}))), [""; 0]);
        assert_eq!(
            updated(&StatefulSet, set(json!({"replicas": 3})), &set(json!({}))),
            [""; 0]
        );
        let errors = updated(
            &StatefulSet,
            set(json!({"serviceName": "t"})),
            &set(json!({})),
        );
        assert!(
            errors[0]
                .starts_with("spec: Forbidden: updates to statefulset spec for fields other than"),
            "{errors:?}"
        );
        assert_eq!(
            created(&StatefulSet, set(json!({"podManagementPolicy": "x"}))),
            [
                "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'"
            ]
        );
    }
}
