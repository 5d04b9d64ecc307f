//! Validation of a pod's volumes.

use std::collections::HashSet;

use api_machinery::{FieldError, FieldPath, ObjectExt, config_map_key_errors, dns_label_errors};
use serde_json::Value;

use super::checks::{Errors, invalid_each, one_of};
use super::container_checks::{descending, object_name};

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Checks the volumes of a spec; gives the names of those that may be mounted.
pub(super) fn volumes<'s>(
    spec: &'s Value,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) -> HashSet<&'s str> {
    let mut names = HashSet::new();
    for (i, volume) in spec.list(&["volumes"]).iter().enumerate() {
        let path = path.index(i);
        let before = errors.len();
        source(volume, &path, errors);
        let name = volume.text(&["name"]);
        match name {
            "" => errors.push(FieldError::required(&path.child("name"), "")),
            name => invalid_each(&path.child("name"), name, dns_label_errors(name), errors),
        }
        if names.contains(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if errors.len() == before {
            names.insert(name);
        }
    }
    names
}

fn source(volume: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let sources = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| *key != "name" && !value.is_null());
    let mut found = false;
    for (kind, source) in sources {
        let path = path.child(kind);
        if found {
            errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        found = true;
        one_source(kind, source, &path, errors);
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn one_source(kind: &str, source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    match kind {
        "hostPath" => {
            let text = source.text(&["path"]);
            if text.is_empty() {
                errors.push(FieldError::required(&path.child("path"), ""));
            } else if text.split('/').any(|step| step == "..") {
                errors.push(FieldError::invalid(
                    &path.child("path"),
                    text,
                    "must not contain '..'",
                ));
            }
            let host_type = source.text(&["type"]);
            if !HOST_PATH_TYPES.contains(&host_type) {
                errors.push(FieldError::not_supported(
                    &path.child("type"),
                    host_type,
                    &HOST_PATH_TYPES,
                ));
            }
        }
        "secret" => {
            if source.text(&["secretName"]).is_empty() {
                errors.push(FieldError::required(&path.child("secretName"), ""));
            }
            files(source, path, errors);
        }
        "configMap" => {
            if source.text(&["name"]).is_empty() {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
            files(source, path, errors);
        }
        "downwardAPI" => mode(source, "defaultMode", path, errors),
        "persistentVolumeClaim" => match source.text(&["claimName"]) {
            "" => errors.push(FieldError::required(&path.child("claimName"), "")),
            name => object_name(name, &path.child("claimName"), errors),
        },
        "projected" => projected(source, path, errors),
        "nfs" => {
            for field in ["server", "path"] {
                if source.text(&[field]).is_empty() {
                    errors.push(FieldError::required(&path.child(field), ""));
                }
            }
        }
        "csi" if source.text(&["driver"]).is_empty() => {
            errors.push(FieldError::required(&path.child("driver"), ""));
        }
        "image" => {
            if source.text(&["reference"]).is_empty() {
                errors.push(FieldError::required(&path.child("reference"), ""));
            }
            one_of(
                source,
                "pullPolicy",
                &["Always", "IfNotPresent", "Never"],
                path,
                errors,
            );
        }
        _ => {}
    }
}

fn mode(source: &Value, field: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if let Some(mode) = source
        .number(&[field])
        .filter(|mode| !(0..=0o777).contains(mode))
    {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(&path.child(field), mode, detail));
    }
}

fn files(source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    mode(source, "defaultMode", path, errors);
    let list = path.child("items");
    for (i, item) in source.list(&["items"]).iter().enumerate() {
        let path = list.index(i);
        match item.text(&["key"]) {
            "" => errors.push(FieldError::required(&path.child("key"), "")),
            key => invalid_each(&path.child("key"), key, config_map_key_errors(key), errors),
        }
        match item.text(&["path"]) {
            "" => errors.push(FieldError::required(&path.child("path"), "")),
            text => descending(text, &path.child("path"), errors),
        }
        mode(item, "mode", &path, errors);
    }
}

fn projected(source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    mode(source, "defaultMode", path, errors);
    let list = path.child("sources");
    for (i, source) in source.list(&["sources"]).iter().enumerate() {
        let path = list.index(i);
        let kinds = source
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null());
        match kinds.count() {
            0 => errors.push(FieldError::required(&path, "must specify a volume type")),
            1 => {}
            _ => errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 volume type",
            )),
        }
        for kind in ["secret", "configMap"] {
            let Some(source) = source.field(&[kind]) else {
                continue;
            };
            if source.text(&["name"]).is_empty() {
                errors.push(FieldError::required(&path.child(kind).child("name"), ""));
            }
        }
        if let Some(token) = source.field(&["serviceAccountToken"]) {
            let path = path.child("serviceAccountToken");
            if token.text(&["path"]).is_empty() {
                errors.push(FieldError::required(&path.child("path"), ""));
            }
            if let Some(seconds) = token
                .number(&["expirationSeconds"])
                .filter(|seconds| *seconds < 600)
            {
                let detail = "may not specify a duration less than 10 minutes";
                errors.push(FieldError::invalid(
                    &path.child("expirationSeconds"),
                    seconds,
                    detail,
                ));
            }
        }
    }
}
