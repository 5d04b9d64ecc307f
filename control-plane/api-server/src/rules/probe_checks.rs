//! Validation of probes and lifecycle hooks.

use api_machinery::{
    FieldError, FieldPath, ObjectExt, http_header_name_errors, port_number_errors,
};
use serde_json::Value;

use super::checks::{Errors, invalid_each, not_negative, one_of, port};

/// One of a container's probes; `name` is its field.
pub(super) fn probe(probe: &Value, name: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    handler(probe, i64::MAX, path, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(probe, field, path, errors);
    }
    let grace = probe.number(&["terminationGracePeriodSeconds"]);
    let grace_path = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = grace.filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(
            &grace_path,
            seconds,
            "must be greater than 0",
        ));
    }
    if name == "readinessProbe" {
        if let Some(seconds) = grace {
            errors.push(FieldError::invalid(
                &grace_path,
                seconds,
                "must not be set for readinessProbes",
            ));
        }
    } else if let Some(threshold) = probe
        .number(&["successThreshold"])
        .filter(|threshold| *threshold != 1)
    {
        errors.push(FieldError::invalid(
            &path.child("successThreshold"),
            threshold,
            "must be 1",
        ));
    }
}

/// What a probe or a hook does: exactly one thing. `grace_seconds` bounds how long it may sleep.
pub(super) fn handler(
    handler: &Value,
    grace_seconds: i64,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let mut found = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = handler.field(&[kind]) else {
            continue;
        };
        let path = path.child(kind);
        if found {
            errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 handler type",
            ));
            continue;
        }
        found = true;
        self::action(action, kind, grace_seconds, &path, errors);
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn action(
    action: &Value,
    kind: &str,
    grace_seconds: i64,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    match kind {
        "exec" if action.list(&["command"]).is_empty() => {
            errors.push(FieldError::required(&path.child("command"), ""));
        }
        "httpGet" => {
            if action.text(&["path"]).is_empty() {
                errors.push(FieldError::required(&path.child("path"), ""));
            }
            port(action, "port", path, errors);
            one_of(action, "scheme", &["HTTP", "HTTPS"], path, errors);
            for header in action.list(&["httpHeaders"]) {
                let name = header.text(&["name"]);
                invalid_each(
                    &path.child("httpHeaders"),
                    name,
                    http_header_name_errors(name),
                    errors,
                );
            }
        }
        "tcpSocket" => port(action, "port", path, errors),
        "grpc" => {
            let number = action.number(&["port"]).unwrap_or_default();
            for sentence in port_number_errors(number) {
                errors.push(FieldError::invalid(&path.child("port"), number, sentence));
            }
        }
        "sleep" => {
            let seconds = action.number(&["seconds"]).unwrap_or_default();
            if !(0..=grace_seconds).contains(&seconds) {
                let detail = format!(
                    "must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})"
                );
                errors.push(FieldError::invalid(path, seconds, detail));
            }
        }
        _ => {}
    }
}
