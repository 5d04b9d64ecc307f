//! Brings an object of the bootstrap policy back to what it should be, as Kubernetes does at every start: what is missing
//! is added, what others added is kept, and nothing is touched where the autoupdate annotation says `false`.

use serde_json::{Map, Value};

use super::bootstrap::AUTOUPDATE_ANNOTATION;
use super::rule::missing_rights;
use super::{PolicyRule, policy};

/// The object to write, or none if the one that is there will do. `held` is what is stored.
pub fn reconciled(wanted: &Value, held: &Value) -> Option<Value> {
    let annotation = held["metadata"]["annotations"]
        .get(AUTOUPDATE_ANNOTATION)
        .and_then(Value::as_str);
    if annotation.is_some_and(|v| v != "true") {
        return None;
    }
    let mut object = held.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            if object["metadata"][field].get(key).is_none() {
                if !object["metadata"][field].is_object() {
                    object["metadata"][field] = Map::new().into();
                }
                object["metadata"][field][key] = value.clone();
            }
        }
    }
    if wanted.get("roleRef").is_some() {
        add_missing(&mut object, wanted, "subjects", |a, b| a == b);
        if object["roleRef"] != wanted["roleRef"] {
            // A binding's role cannot be changed; whoever made it another one keeps it.
            return None;
        }
    } else if wanted.get("aggregationRule").is_none() {
        add_missing_rules(&mut object, wanted);
    } else if object["aggregationRule"] != wanted["aggregationRule"] {
        object["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    (object != *held).then_some(object)
}

fn add_missing(object: &mut Value, wanted: &Value, field: &str, same: fn(&Value, &Value) -> bool) {
    for item in wanted[field].as_array().into_iter().flatten() {
        let there = object[field]
            .as_array()
            .is_some_and(|items| items.iter().any(|i| same(i, item)));
        if !there {
            if !object[field].is_array() {
                object[field] = Value::Array(Vec::new());
            }
            object[field]
                .as_array_mut()
                .expect("made above")
                .push(item.clone());
        }
    }
}

fn add_missing_rules(object: &mut Value, wanted: &Value) {
    let held: Vec<PolicyRule> = policy::rules_in(object).to_vec();
    let missing: Vec<Value> = policy::rules_in(wanted)
        .iter()
        .filter(|rule| !missing_rights(&held, std::slice::from_ref(*rule)).is_empty())
        .map(|rule| serde_json::to_value(rule).expect("a rule is JSON"))
        .collect();
    if !missing.is_empty() {
        if !object["rules"].is_array() {
            object["rules"] = Value::Array(Vec::new());
        }
        object["rules"]
            .as_array_mut()
            .expect("made above")
            .extend(missing);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(rules: Value, autoupdate: Option<&str>) -> Value {
        let annotations = autoupdate
            .map(|v| json!({AUTOUPDATE_ANNOTATION: v}))
            .unwrap_or(json!({}));
        json!({"kind": "ClusterRole", "metadata": {"name": "r", "annotations": annotations}, "rules": rules})
    }

    #[test]
    fn rules_are_added_and_never_taken() {
        let get = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let list = json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]});
        let wanted = role(json!([get]), Some("true"));
        assert_eq!(reconciled(&wanted, &wanted), None);
        let both = role(json!([list, get]), Some("true"));
        assert_eq!(reconciled(&wanted, &both), None);
        assert_eq!(
            reconciled(&wanted, &role(json!([list]), Some("true"))),
            Some(both)
        );
        assert_eq!(reconciled(&wanted, &role(json!([]), Some("false"))), None);
        assert_eq!(
            reconciled(&wanted, &role(json!([get]), None)),
            Some(wanted.clone())
        );
    }
}
