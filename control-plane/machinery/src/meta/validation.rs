//! Validation of metadata, which is the same for every kind.
//!
//! The rule for names is the kind's own and handed in. Follows upstream's `apimachinery/pkg/api/validation`.

use serde_json::Value;

use super::{ObjectExt, PartialMeta};
use crate::names::{dns_label_errors, label_value_errors, qualified_name_errors};
use crate::status::{FieldError, FieldPath};

/// Bytes that all annotations of an object may have together.
pub const TOTAL_ANNOTATION_SIZE_LIMIT: usize = 256 * 1024;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Errors in the metadata of an object that is to be created. `name_errors` are the sentences about a name.
pub fn validate_meta_create(
    object: &Value,
    namespaced: bool,
    name_errors: impl Fn(&str) -> Vec<String>,
) -> Vec<FieldError> {
    let meta = PartialMeta::of(object);
    let root = FieldPath::root("metadata");
    let mut errors = Vec::new();
    let name = root.child("name");
    if meta.name.is_empty() {
        errors.push(FieldError::required(
            &name,
            "name or generateName is required",
        ));
    } else {
        let wrong = name_errors(&meta.name).into_iter();
        errors.extend(wrong.map(|message| FieldError::invalid(&name, meta.name.as_str(), message)));
    }
    let namespace = root.child("namespace");
    match (namespaced, meta.namespace.as_str()) {
        (true, "") => errors.push(FieldError::required(&namespace, "")),
        (true, text) => {
            let wrong = dns_label_errors(text).into_iter();
            errors.extend(wrong.map(|message| FieldError::invalid(&namespace, text, message)));
        }
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden(
            &namespace,
            "not allowed on this type",
        )),
    }
    if meta.generation < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            &root.child("generation"),
            meta.generation,
            detail,
        ));
    }
    validate_common(object, &meta, &mut errors);
    validate_finalizers(object, &meta, &mut errors);
    errors
}

/// Errors in the metadata of an update. Both objects have their resourceVersion.
pub fn validate_meta_update(object: &Value, old: &Value) -> Vec<FieldError> {
    let meta = PartialMeta::of(object);
    let old_meta = PartialMeta::of(old);
    let root = FieldPath::root("metadata");
    let mut errors = Vec::new();
    if old_meta.is_being_deleted() {
        let mut added: Vec<&str> = object
            .finalizers()
            .filter(|f| !old.finalizers().any(|o| o == *f))
            .collect();
        added.sort_unstable();
        if !added.is_empty() {
            let added: Vec<String> = added.iter().map(|f| crate::status::go_quote(f)).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden(&root.child("finalizers"), detail));
        }
    }
    if meta.resource_version.is_empty() {
        let path = root.child("resourceVersion");
        errors.push(FieldError::invalid(
            &path,
            meta.resource_version.as_str(),
            "must be specified for an update",
        ));
    }
    if meta.generation < old_meta.generation {
        errors.push(FieldError::invalid(
            &root.child("generation"),
            meta.generation,
            "must not be decremented",
        ));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (new_value, old_value) = (
            object.field(&["metadata", field]),
            old.field(&["metadata", field]),
        );
        if new_value != old_value {
            let value = new_value.cloned().unwrap_or(Value::Null);
            errors.push(FieldError::immutable(&root.child(field), value));
        }
    }
    validate_common(object, &meta, &mut errors);
    errors
}

fn validate_common(object: &Value, meta: &PartialMeta<'_>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root("metadata");
    let labels = root.child("labels");
    for (key, value) in &meta.labels {
        for message in qualified_name_errors(key) {
            errors.push(FieldError::invalid(&labels, key.as_str(), message));
        }
        for message in label_value_errors(value) {
            errors.push(FieldError::invalid(&labels, value.as_str(), message));
        }
    }
    let annotations = root.child("annotations");
    for (key, _) in &meta.annotations {
        for message in qualified_name_errors(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&annotations, key.as_str(), message));
        }
    }
    if meta
        .annotations
        .iter()
        .map(|(k, v)| k.len() + v.len())
        .sum::<usize>()
        > TOTAL_ANNOTATION_SIZE_LIMIT
    {
        errors.push(FieldError::too_long(
            &annotations,
            TOTAL_ANNOTATION_SIZE_LIMIT,
        ));
    }
    validate_owners(object, meta, errors);
}

fn validate_owners(object: &Value, meta: &PartialMeta<'_>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root("metadata");
    let path = root.child("ownerReferences");
    let mut controller: Option<String> = None;
    for (i, owner) in meta.owner_references.iter().enumerate() {
        if owner.api_version.is_empty() || owner.api_version.ends_with('/') {
            let field = path.child("apiVersion");
            errors.push(FieldError::invalid(
                &field,
                owner.api_version.as_str(),
                "version must not be empty",
            ));
        }
        for (field, value) in [
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                errors.push(FieldError::invalid(
                    &path.child(field),
                    value.as_str(),
                    "must not be empty",
                ));
            }
        }
        if owner.kind.as_str() == "Event" && owner.api_version.as_str() == "v1" {
            let value = object.owner_references()[i].clone();
            errors.push(FieldError::invalid(
                &path,
                value,
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.controller {
            let this = format!("{}/{}", owner.kind.as_str(), owner.name.as_str());
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.push(FieldError::invalid(
                        &path,
                        object.owner_references().to_vec(),
                        detail,
                    ));
                }
            }
        }
    }
}

fn validate_finalizers(object: &Value, meta: &PartialMeta<'_>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root("metadata");
    let path = root.child("finalizers");
    for finalizer in &meta.finalizers {
        for message in qualified_name_errors(finalizer) {
            errors.push(FieldError::invalid(&path, finalizer.as_str(), message));
        }
    }
    let has = |name: &str| meta.finalizers.iter().any(|f| f.as_str() == name);
    if has(ORPHAN) && has(FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        let value = object.list(&["metadata", "finalizers"]).to_vec();
        errors.push(FieldError::invalid(&path, value, detail));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::names::dns_subdomain_errors;

    fn create(metadata: Value) -> Vec<String> {
        let errors =
            validate_meta_create(&json!({"metadata": metadata}), true, dns_subdomain_errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creation_is_checked() {
        assert_eq!(
            create(json!({"name": "web", "namespace": "default", "labels": {"app": "web"}})),
            [""; 0]
        );
        assert_eq!(
            create(json!({})),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
        let two = json!({"name": "web", "namespace": "d", "ownerReferences": [
            {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1", "controller": true},
            {"apiVersion": "v1", "kind": "B", "name": "b", "uid": "2", "controller": true}]});
        let errors = create(two);
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].ends_with("in references for A/a and B/b"),
            "{errors:?}"
        );
        let both = create(
            json!({"name": "web", "namespace": "d", "finalizers": ["orphan", "foregroundDeletion"]}),
        );
        assert!(both[0].ends_with("finalizer orphan and foregroundDeletion cannot be both set"));
    }

    #[test]
    fn updates_keep_identity() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "resourceVersion": "1"}});
        let new = json!({"metadata": {"name": "a", "uid": "2", "resourceVersion": "1"}});
        let errors: Vec<String> = validate_meta_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [r#"metadata.uid: Invalid value: "2": field is immutable"#]
        );
        let going =
            json!({"metadata": {"name": "a", "resourceVersion": "1", "deletionTimestamp": "t"}});
        let mut new = going.clone();
        new["metadata"]["finalizers"] = json!(["a.b/c"]);
        let errors = validate_meta_update(&new, &going);
        assert!(
            errors[0]
                .detail
                .ends_with(r#"found new finalizers []string{"a.b/c"}"#)
        );
    }
}
