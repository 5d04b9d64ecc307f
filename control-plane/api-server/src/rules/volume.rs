//! Volumes, claims and storage classes.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt, Quantity};
use serde_json::{Value, json};

use super::Rules;
use super::checks::{Errors, immutable, one_of, one_of_if_set};
use super::values::{fill, fill_text, get_mut};
use super::volume_defaults;

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const RECLAIM_POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// Fields of a volume's spec that are no source.
const PLAIN_FIELDS: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) struct PersistentVolume;

impl Rules for PersistentVolume {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
            fill(spec, "volumeMode", "Filesystem");
            if let Some(host_path) = get_mut(spec, &["hostPath"]) {
                fill(host_path, "type", "");
            }
            volume_defaults::old_sources(spec);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], json!({"phase": "Pending"}));
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = object.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        access_modes(spec, &path, errors);
        match spec.field(&["capacity", "storage"]) {
            None => errors.push(FieldError::required(&path.child("capacity"), "")),
            Some(amount) => positive(amount, &path.child("capacity[storage]"), errors),
        }
        let sources = spec.as_object().into_iter().flatten();
        let sources = sources
            .filter(|(key, value)| !PLAIN_FIELDS.contains(&key.as_str()) && !value.is_null());
        match sources.count() {
            0 => errors.push(FieldError::required(&path, "must specify a volume type")),
            1 => {}
            _ => errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 volume type",
            )),
        }
        one_of_if_set(
            spec,
            "persistentVolumeReclaimPolicy",
            &RECLAIM_POLICIES,
            &path,
            errors,
        );
        one_of_if_set(spec, "volumeMode", &VOLUME_MODES, &path, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(object, errors);
        immutable(object, old, &["spec", "volumeMode"], errors);
        let source = |object: &Value| {
            let mut spec = object.map(&["spec"]).cloned().unwrap_or_default();
            spec.retain(|field, _| !PLAIN_FIELDS.contains(&field.as_str()));
            spec
        };
        if source(object) != source(old) {
            let detail = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden(
                &FieldPath::root("spec.persistentvolumesource"),
                detail,
            ));
        }
    }
}

pub(super) struct PersistentVolumeClaim;

impl Rules for PersistentVolumeClaim {
    fn default(&self, object: &mut Value) {
        claim_defaults(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], json!({"phase": "Pending"}));
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = object.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        access_modes(spec, &path, errors);
        let requests = path.child("resources");
        match spec.field(&["resources", "requests", "storage"]) {
            None => errors.push(FieldError::required(
                &requests.child("requests[storage]"),
                "",
            )),
            Some(amount) => positive(amount, &requests.child("requests[storage]"), errors),
        }
        one_of_if_set(spec, "volumeMode", &VOLUME_MODES, &path, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(object, errors);
        let fixed = |object: &Value| {
            let mut object = object.clone();
            for path in [
                &["spec", "resources"][..],
                &["spec", "volumeAttributesClassName"],
            ] {
                object.remove_field(path);
            }
            // The volume's name and the class are set by those who bind and default.
            for field in ["volumeName", "storageClassName"] {
                if old.text(&["spec", field]).is_empty() {
                    object.remove_field(&["spec", field]);
                }
            }
            object.field(&["spec"]).cloned()
        };
        if fixed(object) != fixed(old) {
            let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                          bound claims\n";
            errors.push(FieldError::forbidden(&FieldPath::root("spec"), detail));
        }
        let size = |object: &Value| {
            Quantity::parse(object.text(&["spec", "resources", "requests", "storage"])).ok()
        };
        if size(object) < size(old) {
            let path = FieldPath::root("spec.resources.requests.storage");
            errors.push(FieldError::forbidden(
                &path,
                "field can not be less than status.capacity",
            ));
        }
    }
}

/// Defaults of a claim, also within stateful sets.
pub(super) fn claim_defaults(object: &mut Value) {
    if let Some(spec) = get_mut(object, &["spec"]) {
        fill(spec, "volumeMode", "Filesystem");
    }
    if object.text(&["status", "phase"]).is_empty() {
        object.set(&["status", "phase"], "Pending");
    }
}

fn access_modes(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let path = path.child("accessModes");
    let modes = spec.list(&["accessModes"]);
    if modes.is_empty() {
        errors.push(FieldError::required(
            &path,
            "at least 1 access mode is required",
        ));
    }
    for mode in modes {
        let text = mode.as_str().unwrap_or_default();
        if !ACCESS_MODES.contains(&text) {
            errors.push(FieldError::not_supported(&path, text, &ACCESS_MODES));
        }
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn positive(amount: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let text = amount.as_str().unwrap_or_default();
    if Quantity::parse(text).is_ok_and(|amount| amount.sign() <= 0) {
        errors.push(FieldError::invalid(path, text, "must be greater than zero"));
    }
}

pub(super) struct StorageClass;

impl Rules for StorageClass {
    fn default(&self, object: &mut Value) {
        fill(object, "reclaimPolicy", "Delete");
        fill(object, "volumeBindingMode", "Immediate");
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("");
        if object.text(&["provisioner"]).is_empty() {
            errors.push(FieldError::required(&FieldPath::root("provisioner"), ""));
        }
        one_of_if_set(
            object,
            "reclaimPolicy",
            &["Delete", "Retain"],
            &path,
            errors,
        );
        one_of(
            object,
            "volumeBindingMode",
            &["Immediate", "WaitForFirstConsumer"],
            &path,
            errors,
        );
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(object, errors);
        for field in ["parameters", "provisioner"] {
            if object.field(&[field]) != old.field(&[field]) {
                let detail = format!("updates to {field} are forbidden.");
                errors.push(FieldError::forbidden(&FieldPath::root(field), detail));
            }
        }
        immutable(object, old, &["reclaimPolicy"], errors);
        immutable(object, old, &["volumeBindingMode"], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::{created, updated};

    #[test]
    fn claims_are_checked() {
        let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
        assert_eq!(created(&PersistentVolumeClaim, claim("1Gi")), [""; 0]);
        assert_eq!(
            created(
                &PersistentVolumeClaim,
                json!({"metadata": {"name": "c"}, "spec": {}})
            ),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources.requests[storage]: Required value"
            ]
        );
        assert_eq!(
            updated(&PersistentVolumeClaim, claim("2Gi"), &claim("1Gi")),
            [""; 0]
        );
        assert_eq!(
            updated(&PersistentVolumeClaim, claim("1Gi"), &claim("2Gi")).len(),
            1
        );
    }
}
