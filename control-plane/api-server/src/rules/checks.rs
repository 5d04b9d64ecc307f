//! Checks that many kinds share, in upstream's words.

use api_machinery::{
    FieldError, FieldPath, IntOrString, LabelSelector, ObjectExt, label_value_errors,
    port_name_errors, port_number_errors, qualified_name_errors,
};
use serde_json::{Map, Value};

pub(super) type Errors = Vec<FieldError>;

/// One error for each sentence about a value.
pub(super) fn invalid_each(
    path: &FieldPath<'_>,
    value: &str,
    sentences: Vec<String>,
    errors: &mut Errors,
) {
    errors.extend(
        sentences
            .into_iter()
            .map(|sentence| FieldError::invalid(path, value, sentence)),
    );
}

/// The number in a field must not be negative; an unset one is fine.
pub(super) fn not_negative(object: &Value, field: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if let Some(number) = object.number(&[field]).filter(|number| *number < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child(field), number, detail));
    }
}

/// The text in a field must be one of a few; `supported` in the order in which upstream names them.
pub(super) fn one_of(
    object: &Value,
    field: &str,
    supported: &[&str],
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let path = path.child(field);
    match object.text(&[field]) {
        "" => errors.push(FieldError::required(&path, "")),
        text if supported.contains(&text) => {}
        text => errors.push(FieldError::not_supported(&path, text, supported)),
    }
}

/// As [`one_of`], but the field may be unset.
pub(super) fn one_of_if_set(
    object: &Value,
    field: &str,
    supported: &[&str],
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    if object.field(&[field]).is_some() {
        one_of(object, field, supported, path, errors);
    }
}

/// A field may not change.
pub(super) fn immutable(object: &Value, old: &Value, path: &[&str], errors: &mut Errors) {
    let (new, old) = (object.field(path), old.field(path));
    if new != old {
        let name = path.join(".");
        errors.push(FieldError::immutable(
            &FieldPath::root(&name),
            new.cloned().unwrap_or(Value::Null),
        ));
    }
}

/// Labels, or what looks like labels, in a field.
pub(super) fn labels(
    labels: Option<&Map<String, Value>>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    for (key, value) in labels.into_iter().flatten() {
        invalid_each(path, key, qualified_name_errors(key), errors);
        let value = value.as_str().unwrap_or_default();
        invalid_each(path, value, label_value_errors(value), errors);
    }
}

/// A `LabelSelector` object.
pub(super) fn label_selector(selector: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    labels(
        selector.map(&["matchLabels"]),
        &path.child("matchLabels"),
        errors,
    );
    let list = path.child("matchExpressions");
    for (i, expression) in selector.list(&["matchExpressions"]).iter().enumerate() {
        let path = list.index(i);
        let values = expression.list(&["values"]);
        match expression.text(&["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(&path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&path.child("values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
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
        let values_path = path.child("values");
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            invalid_each(
                &values_path.index(j),
                value,
                label_value_errors(value),
                errors,
            );
        }
    }
}

/// The selector of a workload and whether its template's labels fit. `kind` is upstream's word for the workload.
pub(super) fn workload_selector(
    spec: &Value,
    kind: &str,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let selector_path = path.child("selector");
    let selector = spec.field(&["selector"]);
    match selector {
        None => errors.push(FieldError::required(&selector_path, "")),
        Some(selector) => {
            label_selector(selector, &selector_path, errors);
            let terms = selector.map(&["matchLabels"]).map_or(0, Map::len)
                + selector.list(&["matchExpressions"]).len();
            if terms == 0 {
                let detail = format!("empty selector is invalid for {kind}");
                errors.push(FieldError::invalid(
                    &selector_path,
                    selector.clone(),
                    detail,
                ));
            }
        }
    }
    match LabelSelector::from_object(selector) {
        Err(_) => {
            let value = selector.cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(
                &selector_path,
                value,
                "invalid label selector",
            ));
        }
        Ok(selector) => template_matches(spec, &selector, path, errors),
    }
}

/// The template's labels must be selected.
pub(super) fn template_matches(
    spec: &Value,
    selector: &LabelSelector,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let labels = spec.map(&["template", "metadata", "labels"]);
    if !selector.is_everything() && !selector.is_nothing() && !selector.matches(&labels) {
        let value = labels.cloned().map_or(Value::Null, Value::Object);
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            &path.child("template.metadata.labels"),
            value,
            detail,
        ));
    }
}

/// A port by number or by name.
pub(super) fn port(object: &Value, field: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let path = path.child(field);
    match object.field(&[field]) {
        Some(Value::String(name)) => invalid_each(&path, name, port_name_errors(name), errors),
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or_default();
            let sentences = port_number_errors(number).into_iter();
            errors.extend(sentences.map(|sentence| FieldError::invalid(&path, number, sentence)));
        }
    }
}

/// A count or a percentage; `None` where the field is unset.
pub(super) fn int_or_percent(
    object: &Value,
    field: &str,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) -> Option<IntOrString> {
    let value = object.field(&[field])?;
    let path = path.child(field);
    let parsed = IntOrString::from_value(value)?;
    match &parsed {
        IntOrString::Int(number) if *number < 0 => {
            errors.push(FieldError::invalid(
                &path,
                *number,
                "must be greater than or equal to 0",
            ));
        }
        IntOrString::Text(_) if parsed.percent().is_none() => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                          '93%', regex used for validation is '[0-9]+%')";
            errors.push(FieldError::invalid(&path, value.clone(), detail));
        }
        _ => {}
    }
    Some(parsed)
}

/// A percentage may not exceed 100.
pub(super) fn at_most_100_percent(
    value: Option<&IntOrString>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    if let Some(value) = value.filter(|value| value.percent().is_some_and(|p| p > 100)) {
        errors.push(FieldError::invalid(
            path,
            value.to_string(),
            "must not be greater than 100%",
        ));
    }
}

/// Whether a count or percentage is zero; an unset one is.
pub(super) fn is_zero(value: Option<&IntOrString>) -> bool {
    match value {
        Some(IntOrString::Int(number)) => *number == 0,
        Some(text) => text.percent().unwrap_or_default() == 0,
        None => true,
    }
}

/// Counts of replicas in a status: none negative, and those listed not above `status.replicas`.
pub(super) fn replica_counts(
    object: &Value,
    fields: &[&str],
    capped: &[&str],
    errors: &mut Errors,
) {
    let Some(status) = object.field(&["status"]) else {
        return;
    };
    let path = FieldPath::root("status");
    for field in fields {
        not_negative(status, field, &path, errors);
    }
    let count = |field: &str| status.number(&[field]).unwrap_or_default();
    for field in capped {
        if count(field) > count("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(
                &path.child(field),
                count(field),
                detail,
            ));
        }
    }
    if capped.contains(&"readyReplicas") && count("availableReplicas") > count("readyReplicas") {
        let field = path.child("availableReplicas");
        errors.push(FieldError::invalid(
            &field,
            count("availableReplicas"),
            "cannot be greater than readyReplicas",
        ));
    }
}
