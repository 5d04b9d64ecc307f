//! Validation of pod specs and pod templates.

use std::collections::HashSet;

use api_machinery::{
    FieldError, FieldPath, ObjectExt, dns_label_errors, label_value_errors, qualified_name_errors,
};
use serde_json::Value;

use super::checks::{self, Errors, invalid_each, one_of, one_of_if_set};
use super::container_checks::{self, PodParts, object_name};
use super::volume_checks;

const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A pod template: its labels, annotations and spec.
pub(super) fn template(template: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    checks::labels(template.labels(), &path.child("labels"), errors);
    for (key, _) in template.annotations().into_iter().flatten() {
        invalid_each(
            &path.child("annotations"),
            key,
            qualified_name_errors(&key.to_lowercase()),
            errors,
        );
    }
    let empty = Value::Null;
    let spec = template.field(&["spec"]).unwrap_or(&empty);
    let spec_path = path.child("spec");
    pod_spec(spec, &spec_path, errors);
    if !spec.list(&["ephemeralContainers"]).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(
            &spec_path.child("ephemeralContainers"),
            detail,
        ));
    }
}

/// The template of a workload whose pods are started again for ever. `kind` is the workload's.
pub(super) fn long_running_template(
    spec: &Value,
    kind: &str,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let Some(template) = spec.field(&["template"]) else {
        errors.push(FieldError::required(&path.child("template"), ""));
        return;
    };
    self::template(template, &path.child("template"), errors);
    let pod_path = path.child("template.spec");
    match template.text(&["spec", "restartPolicy"]) {
        "Always" => {}
        other => errors.push(FieldError::not_supported(
            &pod_path.child("restartPolicy"),
            other,
            &["Always"],
        )),
    }
    if template.field(&["spec", "activeDeadlineSeconds"]).is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(
            &pod_path.child("activeDeadlineSeconds"),
            detail,
        ));
    }
}

/// A pod's spec.
pub(super) fn pod_spec(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let parts = PodParts {
        volumes: volume_checks::volumes(spec, &path.child("volumes"), errors),
        grace_seconds: spec
            .number(&["terminationGracePeriodSeconds"])
            .unwrap_or_default(),
    };
    containers(spec, &parts, path, errors);
    one_of(
        spec,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        path,
        errors,
    );
    one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        path,
        errors,
    );
    checks::labels(
        spec.map(&["nodeSelector"]),
        &path.child("nodeSelector"),
        errors,
    );
    checks::not_negative(spec, "terminationGracePeriodSeconds", path, errors);
    host_network(spec, path, errors);
    for field in [
        "serviceAccountName",
        "nodeName",
        "priorityClassName",
        "runtimeClassName",
    ] {
        let name = spec.text(&[field]);
        if !name.is_empty() {
            object_name(name, &path.child(field), errors);
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.text(&[field]);
        if !name.is_empty() {
            invalid_each(&path.child(field), name, dns_label_errors(name), errors);
        }
    }
    let deadline = spec.number(&["activeDeadlineSeconds"]);
    if let Some(seconds) = deadline.filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds)) {
        let detail = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            detail,
        ));
    }
    one_of_if_set(
        spec,
        "preemptionPolicy",
        &["PreemptLowerPriority", "Never"],
        path,
        errors,
    );
    tolerations(spec, &path.child("tolerations"), errors);
    spread_constraints(spec, &path.child("topologySpreadConstraints"), errors);
    affinity(spec, &path.child("affinity"), errors);
}

fn containers(spec: &Value, parts: &PodParts<'_>, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("containers");
    let containers = spec.list(&["containers"]);
    if containers.is_empty() {
        errors.push(FieldError::required(&list, ""));
    }
    let mut names = HashSet::new();
    for (i, container) in containers.iter().enumerate() {
        let path = list.index(i);
        container_checks::container(container, parts, &path, errors);
        let name = container.text(&["name"]);
        if !names.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        container_checks::probes(container, parts, &path, errors);
        one_of_if_set(
            container,
            "restartPolicy",
            &["Always", "OnFailure", "Never"],
            &path,
            errors,
        );
    }
    container_checks::host_ports(containers, &list, errors);
    let list = path.child("initContainers");
    for (i, container) in spec.list(&["initContainers"]).iter().enumerate() {
        let path = list.index(i);
        container_checks::container(container, parts, &path, errors);
        init_container(container, parts, &path, errors);
        let name = container.text(&["name"]);
        if !name.is_empty() && !names.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
    let list = path.child("ephemeralContainers");
    for (i, container) in spec.list(&["ephemeralContainers"]).iter().enumerate() {
        let path = list.index(i);
        container_checks::container(container, parts, &path, errors);
        let name = container.text(&["name"]);
        if !name.is_empty() && !names.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
}

fn init_container(
    container: &Value,
    parts: &PodParts<'_>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    one_of_if_set(
        container,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        path,
        errors,
    );
    if container.text(&["restartPolicy"]) == "Always" {
        container_checks::probes(container, parts, path, errors);
        return;
    }
    for field in [
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ] {
        if container.field(&[field]).is_some() {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
}

fn host_network(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if !spec.flag(&["hostNetwork"]) {
        return;
    }
    let list = path.child("containers");
    for (i, container) in spec.list(&["containers"]).iter().enumerate() {
        for (j, port) in container.list(&["ports"]).iter().enumerate() {
            let host_port = port.number(&["hostPort"]).unwrap_or_default();
            if host_port != 0 && Some(host_port) != port.number(&["containerPort"]) {
                let container = list.index(i);
                let ports = container.child("ports");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(
                    &ports.index(j).child("hostPort"),
                    host_port,
                    detail,
                ));
            }
        }
    }
}

fn tolerations(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (i, toleration) in spec.list(&["tolerations"]).iter().enumerate() {
        let path = path.index(i);
        let text = |field: &str| toleration.text(&[field]);
        let (key, operator, value, effect) =
            (text("key"), text("operator"), text("value"), text("effect"));
        if !key.is_empty() {
            invalid_each(&path.child("key"), key, qualified_name_errors(key), errors);
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(
                &path.child("operator"),
                operator,
                detail,
            ));
        }
        if toleration.field(&["tolerationSeconds"]).is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let wrong = label_value_errors(value);
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(
                        &path.child("operator"),
                        value,
                        wrong.join(";"),
                    ));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&path.child("operator"), value, detail));
            }
            "Exists" => {}
            other => errors.push(FieldError::not_supported(
                &path.child("operator"),
                other,
                &["Equal", "Exists"],
            )),
        }
        if !effect.is_empty() {
            one_of(toleration, "effect", &TAINT_EFFECTS, &path, errors);
        }
    }
}

fn spread_constraints(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (i, constraint) in spec.list(&["topologySpreadConstraints"]).iter().enumerate() {
        let path = path.index(i);
        let skew = constraint.number(&["maxSkew"]).unwrap_or_default();
        if skew <= 0 {
            errors.push(FieldError::invalid(
                &path.child("maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        match constraint.text(&["topologyKey"]) {
            "" => errors.push(FieldError::required(
                &path.child("topologyKey"),
                "can not be empty",
            )),
            key => invalid_each(
                &path.child("topologyKey"),
                key,
                qualified_name_errors(key),
                errors,
            ),
        }
        one_of(
            constraint,
            "whenUnsatisfiable",
            &["DoNotSchedule", "ScheduleAnyway"],
            &path,
            errors,
        );
        if let Some(selector) = constraint.field(&["labelSelector"]) {
            checks::label_selector(selector, &path.child("labelSelector"), errors);
        }
    }
}

fn affinity(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let node = path.child("nodeAffinity");
    if let Some(required) = spec.field(&["affinity", "nodeAffinity", REQUIRED]) {
        let terms = node.child(REQUIRED);
        let terms = terms.child("nodeSelectorTerms");
        let list = required.list(&["nodeSelectorTerms"]);
        if list.is_empty() {
            errors.push(FieldError::required(
                &terms,
                "must have at least one node selector term",
            ));
        }
        for (i, term) in list.iter().enumerate() {
            node_selector_term(term, &terms.index(i), errors);
        }
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let side_path = path.child(side);
        let list = side_path.child(REQUIRED);
        for (i, term) in spec.list(&["affinity", side, REQUIRED]).iter().enumerate() {
            let path = list.index(i);
            match term.text(&["topologyKey"]) {
                "" => errors.push(FieldError::required(
                    &path.child("topologyKey"),
                    "can not be empty",
                )),
                key => invalid_each(
                    &path.child("topologyKey"),
                    key,
                    qualified_name_errors(key),
                    errors,
                ),
            }
            if let Some(selector) = term.field(&["labelSelector"]) {
                checks::label_selector(selector, &path.child("labelSelector"), errors);
            }
        }
    }
}

fn node_selector_term(term: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (i, expression) in term.list(&["matchExpressions"]).iter().enumerate() {
        let path = list.index(i);
        let values = expression.list(&["values"]).len();
        let values_path = path.child("values");
        match expression.text(&["operator"]) {
            "In" | "NotIn" if values == 0 => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(&values_path, detail));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&values_path, detail));
            }
            "Gt" | "Lt" if values != 1 => {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(&values_path, detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                errors.push(FieldError::invalid(
                    &path.child("operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
        let key = expression.text(&["key"]);
        invalid_each(&path.child("key"), key, qualified_name_errors(key), errors);
    }
}
