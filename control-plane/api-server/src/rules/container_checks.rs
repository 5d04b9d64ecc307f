//! Validation of one container: names, ports, environment, mounts, resources, probes.

use std::collections::HashSet;

use api_machinery::{
    FieldError, FieldPath, ObjectExt, Quantity, config_map_key_errors, dns_label_errors,
    dns_subdomain_errors, env_var_name_errors, port_name_errors, port_number_errors,
    qualified_name_errors,
};
use serde_json::Value;

use super::checks::{Errors, invalid_each, one_of};
use super::probe_checks;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
/// Resources of which a container may be given more than it asked for.
const OVERCOMMITTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What containers of one pod are checked against.
pub(super) struct PodParts<'p> {
    pub volumes: HashSet<&'p str>,
    /// `terminationGracePeriodSeconds`.
    pub grace_seconds: i64,
}

/// What containers of pods, but not of templates, must fulfil besides.
pub(super) fn image_text(container: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let image = container.text(&["image"]);
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, detail));
    }
}

/// What every container must fulfil.
pub(super) fn container(
    container: &Value,
    pod: &PodParts<'_>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let name = container.text(&["name"]);
    match name {
        "" => errors.push(FieldError::required(&path.child("name"), "")),
        name => invalid_each(&path.child("name"), name, dns_label_errors(name), errors),
    }
    if container.text(&["image"]).is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    }
    one_of(
        container,
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
        path,
        errors,
    );
    ports(container, &path.child("ports"), errors);
    environment(container, path, errors);
    mounts(container, pod, &path.child("volumeMounts"), errors);
    one_of(
        container,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        path,
        errors,
    );
    resources(container, &path.child("resources"), errors);
}

/// What containers that run for long must fulfil besides.
pub(super) fn probes(
    container: &Value,
    pod: &PodParts<'_>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    for name in ["postStart", "preStop"] {
        if let Some(hook) = container.field(&["lifecycle", name]) {
            let lifecycle = path.child("lifecycle");
            probe_checks::handler(hook, pod.grace_seconds, &lifecycle.child(name), errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.field(&[name]) {
            probe_checks::probe(probe, name, &path.child(name), errors);
        }
    }
}

fn ports(container: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (i, port) in container.list(&["ports"]).iter().enumerate() {
        let path = path.index(i);
        let name = port.text(&["name"]);
        if !name.is_empty() {
            let wrong = port_name_errors(name);
            if wrong.is_empty() && !names.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            invalid_each(&path.child("name"), name, wrong, errors);
        }
        let number = |field: &str| port.number(&[field]).unwrap_or_default();
        let mut check = |field: &str| {
            for sentence in port_number_errors(number(field)) {
                errors.push(FieldError::invalid(
                    &path.child(field),
                    number(field),
                    sentence,
                ));
            }
        };
        if number("hostPort") != 0 {
            check("hostPort");
        }
        match number("containerPort") {
            0 => errors.push(FieldError::required(&path.child("containerPort"), "")),
            _ => check("containerPort"),
        }
        one_of(port, "protocol", &PROTOCOLS, &path, errors);
    }
}

/// Two containers of a pod may not have the same port of the host.
pub(super) fn host_ports(containers: &[Value], path: &FieldPath<'_>, errors: &mut Errors) {
    let mut taken = HashSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.list(&["ports"]).iter().enumerate() {
            let Some(number) = port.number(&["hostPort"]).filter(|number| *number != 0) else {
                continue;
            };
            let place = format!(
                "{}/{}/{number}",
                port.text(&["protocol"]),
                port.text(&["hostIP"])
            );
            if taken.contains(&place) {
                let container = path.index(i);
                let ports = container.child("ports");
                errors.push(FieldError::duplicate(
                    &ports.index(j).child("hostPort"),
                    place,
                ));
            } else {
                taken.insert(place);
            }
        }
    }
}

fn environment(container: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("env");
    for (i, variable) in container.list(&["env"]).iter().enumerate() {
        let path = list.index(i);
        match variable.text(&["name"]) {
            "" => errors.push(FieldError::required(&path.child("name"), "")),
            name => invalid_each(&path.child("name"), name, env_var_name_errors(name), errors),
        }
        value_from(variable, &path.child("valueFrom"), errors);
    }
    let list = path.child("envFrom");
    for (i, source) in container.list(&["envFrom"]).iter().enumerate() {
        let path = list.index(i);
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let Some(reference) = source.field(&[kind]) else {
                continue;
            };
            count += 1;
            if reference.text(&["name"]).is_empty() {
                errors.push(FieldError::required(&path.child(kind).child("name"), ""));
            }
        }
        let detail = match count {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(&list, "", detail));
    }
}

fn value_from(variable: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    const SOURCES: [&str; 5] = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    let Some(from) = variable.field(&["valueFrom"]) else {
        return;
    };
    let count = SOURCES
        .iter()
        .filter(|source| from.field(&[source]).is_some())
        .count();
    for source in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = from.field(&[source]) else {
            continue;
        };
        let path = path.child(source);
        if reference.text(&["name"]).is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        match reference.text(&["key"]) {
            "" => errors.push(FieldError::required(&path.child("key"), "")),
            key => invalid_each(&path.child("key"), key, config_map_key_errors(key), errors),
        }
    }
    if let Some(reference) = from.field(&["fieldRef"])
        && reference.text(&["fieldPath"]).is_empty()
    {
        errors.push(FieldError::required(
            &path.child("fieldRef").child("fieldPath"),
            "",
        ));
    }
    let detail = if count == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
    } else if !variable.text(&["value"]).is_empty() {
        "may not be specified when `value` is not empty"
    } else if count > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, "", detail));
}

fn mounts(container: &Value, pod: &PodParts<'_>, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut places = HashSet::new();
    for (i, mount) in container.list(&["volumeMounts"]).iter().enumerate() {
        let element = path.index(i);
        let (name, place) = (mount.text(&["name"]), mount.text(&["mountPath"]));
        if name.is_empty() {
            errors.push(FieldError::required(&element.child("name"), ""));
        }
        if !pod.volumes.contains(name) {
            errors.push(FieldError::not_found(&element.child("name"), name));
        }
        if place.is_empty() {
            errors.push(FieldError::required(&element.child("mountPath"), ""));
        }
        if !places.insert(place) {
            errors.push(FieldError::invalid(
                &element.child("mountPath"),
                place,
                "must be unique",
            ));
        }
        let (sub_path, expression) = (mount.text(&["subPath"]), mount.text(&["subPathExpr"]));
        descending(sub_path, &path.child("subPath"), errors);
        if !expression.is_empty() && !sub_path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(
                &element.child("subPathExpr"),
                expression,
                detail,
            ));
        }
        descending(expression, &path.child("subPathExpr"), errors);
    }
}

/// A relative path that does not climb.
pub(super) fn descending(text: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    if text.split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(path, text, "must not contain '..'"));
    }
}

fn resources(container: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = |field: &str| container.map(&["resources", field]);
    for field in ["limits", "requests"] {
        let path = path.child(field);
        for (name, value) in list(field).into_iter().flatten() {
            let path = path.key(name);
            resource_name(name, &path, errors);
            if let Some(amount) = amount(value).filter(|amount| amount.sign() < 0) {
                let detail = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(&path, amount.to_string(), detail));
            }
        }
    }
    let requests = path.child("requests");
    for (name, request) in list("requests").into_iter().flatten() {
        let Some(request) = amount(request) else {
            continue;
        };
        match list("limits")
            .and_then(|limits| limits.get(name))
            .and_then(amount)
        {
            Some(limit) if !OVERCOMMITTED.contains(&name.as_str()) && request != limit => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests, request.to_string(), detail));
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests, request.to_string(), detail));
            }
            None if !OVERCOMMITTED.contains(&name.as_str()) => {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(&path.child("limits"), detail));
            }
            _ => {}
        }
    }
}

fn amount(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

fn resource_name(name: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    invalid_each(path, name, qualified_name_errors(name), errors);
    let standard = OVERCOMMITTED.contains(&name) || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource for containers",
        ));
    }
}

/// The name of another object.
pub(super) fn object_name(text: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    invalid_each(path, text, dns_subdomain_errors(text), errors);
}
