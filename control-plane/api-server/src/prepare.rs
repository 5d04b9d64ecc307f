//! Makes an object from a client fit to be stored: metadata that is the server's own, status, generation, validation.
//!
//! Objects are in the stored version here. What is particular to a kind is asked of its rules.

use api_machinery::{
    FieldError, FieldPath, ObjectExt, ObjectMutExt, Status, Timestamp, dns_label_errors,
    dns_subdomain_errors, format_time, path_segment_errors, validate_meta_create,
    validate_meta_update,
};
use serde_json::Value;

use crate::resource::Resource;
use crate::strategy::NameFormat;

/// Metadata that a client does not decide.
const SYSTEM_FIELDS: [&str; 5] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

/// Gives the object the request's namespace.
///
/// # Errors
/// 400 where it names another.
pub(crate) fn ensure_namespace(
    resource: &Resource,
    namespace: &str,
    object: &mut Value,
) -> Result<(), Status> {
    if !resource.kind.namespaced {
        object.remove_field(&["metadata", "namespace"]);
        return Ok(());
    }
    match object.namespace() {
        own if own == namespace => Ok(()),
        "" => {
            object.set(&["metadata", "namespace"], namespace);
            Ok(())
        }
        _ => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// Prepares and checks a new object; its name is there already.
///
/// # Errors
/// 422 with every field that is wrong.
pub(crate) fn create(
    resource: &Resource,
    object: &mut Value,
    uid: String,
) -> Result<Vec<String>, Status> {
    for field in SYSTEM_FIELDS {
        object.remove_field(&["metadata", field]);
    }
    object.set(&["metadata", "uid"], uid);
    object.set(
        &["metadata", "creationTimestamp"],
        format_time(Timestamp::now()),
    );
    if resource.kind.generation {
        object.set(&["metadata", "generation"], 1);
    }
    if resource.kind.has_status() {
        object.remove_field(&["status"]);
    }
    resource.rules.prepare_create(object);
    let format = resource.strategy.names;
    let mut errors = validate_meta_create(object, resource.kind.namespaced, |name| {
        name_errors(format, name)
    });
    resource.rules.validate_create(object, &mut errors);
    invalid(resource, object, errors)?;
    Ok(resource.rules.warnings(object, None))
}

/// Prepares and checks a changed object. `resourceVersion` is there in both.
///
/// # Errors
/// 422 with every field that is wrong.
pub(crate) fn update(
    resource: &Resource,
    object: &mut Value,
    old: &Value,
) -> Result<Vec<String>, Status> {
    keep(object, old, &["metadata", "generation"]);
    if resource.kind.has_status() {
        keep(object, old, &["status"]);
    }
    resource.rules.prepare_update(object, old);
    if resource.kind.generation && differs_beyond_status(object, old) {
        object.set(&["metadata", "generation"], old.generation() + 1);
    }
    keep_system_fields(object, old);
    let mut errors = validate_meta_update(object, old);
    resource.rules.validate_update(object, old, &mut errors);
    invalid(resource, object, errors)?;
    Ok(resource.rules.warnings(object, Some(old)))
}

/// Prepares and checks an update through `/status`: only status and metadata change.
///
/// # Errors
/// 422 with every field that is wrong.
pub(crate) fn update_status(
    resource: &Resource,
    object: &mut Value,
    old: &Value,
) -> Result<Vec<String>, Status> {
    let status = object.remove_field(&["status"]);
    let metadata = object.remove_field(&["metadata"]);
    let mut merged = old.clone();
    if let Some(metadata) = metadata {
        merged.set(&["metadata"], metadata);
    }
    match status {
        Some(status) => merged.set(&["status"], status),
        None => drop(merged.remove_field(&["status"])),
    }
    *object = merged;
    for field in ["generation", "ownerReferences"] {
        keep(object, old, &["metadata", field]);
    }
    resource.rules.prepare_status_update(object, old);
    keep_system_fields(object, old);
    let mut errors = validate_meta_update(object, old);
    resource
        .rules
        .validate_status_update(object, old, &mut errors);
    invalid(resource, object, errors)?;
    Ok(Vec::new())
}

fn keep_system_fields(object: &mut Value, old: &Value) {
    if object.uid().is_empty() {
        keep(object, old, &["metadata", "uid"]);
    }
    keep(object, old, &["metadata", "creationTimestamp"]);
    if old.is_being_deleted() {
        keep(object, old, &["metadata", "deletionTimestamp"]);
        if object
            .number(&["metadata", "deletionGracePeriodSeconds"])
            .is_none()
        {
            keep(object, old, &["metadata", "deletionGracePeriodSeconds"]);
        }
    } else {
        object.remove_field(&["metadata", "deletionTimestamp"]);
        object.remove_field(&["metadata", "deletionGracePeriodSeconds"]);
    }
}

/// The old value of a field stays, or its absence.
fn keep(object: &mut Value, old: &Value, path: &[&str]) {
    match old.field(path) {
        Some(value) => object.set(path, value.clone()),
        None => drop(object.remove_field(path)),
    }
}

fn differs_beyond_status(object: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (object.as_object(), old.as_object()) else {
        return true;
    };
    let own =
        |key: &&String| !matches!(key.as_str(), "metadata" | "status" | "kind" | "apiVersion");
    let keys = new.keys().chain(old.keys()).filter(own);
    keys.into_iter().any(|key| new.get(key) != old.get(key))
}

/// The sentences about a name in a kind's format.
pub(crate) fn name_errors(format: NameFormat, name: &str) -> Vec<String> {
    match format {
        NameFormat::DnsSubdomain => dns_subdomain_errors(name),
        NameFormat::DnsLabel => dns_label_errors(name),
        NameFormat::PathSegment => path_segment_errors(name),
    }
}

/// # Errors
/// 422 if there are errors.
pub(crate) fn invalid(
    resource: &Resource,
    object: &Value,
    errors: Vec<FieldError>,
) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(
        &resource.kind.storage_group,
        &resource.kind.kind,
        object.name(),
        &errors,
    ))
}

/// # Errors
/// 400 where the object's name is not the URL's.
pub(crate) fn check_name(object: &mut Value, name: &str) -> Result<(), Status> {
    match object.name() {
        own if own == name => Ok(()),
        "" => {
            object.set(&["metadata", "name"], name);
            Ok(())
        }
        own => Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        ))),
    }
}

/// # Errors
/// 422, as for an update without resourceVersion.
pub(crate) fn missing_resource_version(resource: &Resource, name: &str) -> Status {
    let path = FieldPath::root("metadata");
    let error = FieldError::invalid(
        &path.child("resourceVersion"),
        0,
        "must be specified for an update",
    );
    Status::invalid(&resource.kind.group, &resource.kind.plural, name, &[error])
}
