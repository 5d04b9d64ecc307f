//! ConfigMaps and Secrets.

use api_machinery::{FieldError, FieldPath, ObjectExt, config_map_key_errors};
use serde_json::{Map, Value};

use super::Rules;
use super::checks::{Errors, immutable, invalid_each};
use super::values::fill_text;

/// Bytes that all values may have together.
const MAX_SIZE: usize = 1024 * 1024;

pub(super) struct ConfigMap;

impl Rules for ConfigMap {
    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let binary = object.map(&["binaryData"]);
        let mut size = 0;
        let path = FieldPath::root("data");
        for (key, value) in object.map(&["data"]).into_iter().flatten() {
            invalid_each(&path.key(key), key, config_map_key_errors(key), errors);
            if binary.is_some_and(|binary| binary.contains_key(key)) {
                let detail = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(&path.key(key), key.as_str(), detail));
            }
            size += value.as_str().map_or(0, str::len);
        }
        let path = FieldPath::root("binaryData");
        for (key, value) in binary.into_iter().flatten() {
            invalid_each(&path.key(key), key, config_map_key_errors(key), errors);
            size += decoded_length(value);
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long(&FieldPath::root(""), MAX_SIZE));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        frozen(object, old, &["data", "binaryData"], errors);
        self.validate_create(object, errors);
    }
}

/// What may not change once the object says so itself.
fn frozen(object: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if !old.flag(&["immutable"]) {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !object.flag(&["immutable"]) {
        errors.push(FieldError::forbidden(&FieldPath::root("immutable"), detail));
    }
    for field in fields {
        if object.field(&[field]) != old.field(&[field]) {
            errors.push(FieldError::forbidden(&FieldPath::root(field), detail));
        }
    }
}

/// Bytes behind a base64 text.
fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

pub(super) struct Secret;

impl Rules for Secret {
    fn default(&self, object: &mut Value) {
        merge_plain_data(object);
        fill_text(object, "type", "Opaque");
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("data");
        let mut size = 0;
        for (key, value) in object.map(&["data"]).into_iter().flatten() {
            invalid_each(&path.key(key), key, config_map_key_errors(key), errors);
            size += decoded_length(value);
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long(&path, MAX_SIZE));
        }
        typed(object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        immutable(object, old, &["type"], errors);
        frozen(object, old, &["data"], errors);
        self.validate_create(object, errors);
    }
}

/// `stringData` is a way to write `data` and is never read back.
fn merge_plain_data(object: &mut Value) {
    use base64::Engine;
    let Some(plain) = object
        .as_object_mut()
        .and_then(|map| map.shift_remove("stringData"))
    else {
        return;
    };
    let Value::Object(plain) = plain else { return };
    let Some(map) = object.as_object_mut() else {
        return;
    };
    let data = map.entry("data").or_insert_with(|| Map::new().into());
    if data.is_null() {
        *data = Map::new().into();
    }
    if let Some(data) = data.as_object_mut() {
        for (key, value) in plain {
            let text = base64::engine::general_purpose::STANDARD
                .encode(value.as_str().unwrap_or_default());
            data.insert(key, text.into());
        }
    }
}

/// What a secret's type asks for.
fn typed(object: &Value, errors: &mut Errors) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let path = FieldPath::root("data");
    let has = |key: &str| object.field(&["data", key]).is_some();
    let mut require = |keys: &[&str]| {
        for key in keys.iter().filter(|key| !has(key)) {
            errors.push(FieldError::required(&path.key(key), ""));
        }
    };
    match object.text(&["type"]) {
        "kubernetes.io/dockercfg" => require(&[".dockercfg"]),
        "kubernetes.io/dockerconfigjson" => require(&[".dockerconfigjson"]),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            require(&["username", "password"])
        }
        "kubernetes.io/ssh-auth" => require(&["ssh-privatekey"]),
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"]),
        "kubernetes.io/service-account-token"
            if object.annotation(ACCOUNT).is_none_or(str::is_empty) =>
        {
            let annotations = FieldPath::root("metadata.annotations");
            errors.push(FieldError::required(&annotations.key(ACCOUNT), ""));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::check::{created, stored, updated};

    #[test]
    fn plain_data_is_encoded() {
        let object = stored(
            &Secret,
            json!({"metadata": {}, "data": {"a": "eA=="}, "stringData": {"a": "y", "b": "z"}}),
        );
        assert_eq!(
            object,
            json!({"metadata": {}, "data": {"a": "eQ==", "b": "eg=="}, "type": "Opaque"})
        );
    }

    #[test]
    fn types_ask_for_keys() {
        assert_eq!(
            created(
                &Secret,
                json!({"metadata": {}, "type": "kubernetes.io/tls", "data": {"tls.crt": ""}})
            ),
            ["data[tls.key]: Required value"]
        );
        assert_eq!(
            updated(
                &Secret,
                json!({"metadata": {}, "type": "b"}),
                &json!({"metadata": {}, "type": "a"})
            ),
            ["type: Invalid value: \"b\": field is immutable"]
        );
    }

    #[test]
    fn frozen_maps_do_not_change() {
        let old = json!({"metadata": {}, "immutable": true, "data": {"a": "1"}});
        let new = json!({"metadata": {}, "immutable": true, "data": {"a": "2"}});
        assert_eq!(
            updated(&ConfigMap, new, &old),
            ["data: Forbidden: field is immutable when `immutable` is set"]
        );
        let errors = created(&ConfigMap, json!({"metadata": {}, "data": {"a/b": ""}}));
        assert!(
            errors[0].starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key must"),
            "{errors:?}"
        );
    }
}
