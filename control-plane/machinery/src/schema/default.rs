//! Defaults that are declared in the schema (`protocol: TCP`), applied to an object by its type.
//!
//! Defaults that depend on other fields are rules of their kinds and live elsewhere.

use serde_json::Value;

use super::{Schema, Type, TypeId};

/// Sets every absent field that has a declared default, wherever its parent object is present. Go zero values that
/// OpenAPI publishes as defaults are no declared defaults and are not set here.
pub fn apply_defaults(schema: &Schema, id: TypeId, value: &mut Value) {
    let definition = schema.definition(id);
    if !definition.defaults_below {
        return;
    }
    let Value::Object(map) = value else { return };
    for field in &definition.fields {
        match (map.get_mut(field.name), &field.default) {
            (None | Some(Value::Null), Some(default)) => {
                map.insert(field.name.to_owned(), Value::clone(default));
            }
            (Some(value), _) => default_value(schema, field.ty, value),
            (None, None) => {}
        }
    }
}

fn default_value(schema: &Schema, ty: Type, value: &mut Value) {
    match (ty, value) {
        (Type::Struct(id), value) => apply_defaults(schema, id, value),
        (Type::List(id), Value::Array(items)) => {
            let item = schema.list(id).item;
            if matches!(item, Type::Struct(_) | Type::List(_) | Type::Map(_)) {
                items
                    .iter_mut()
                    .for_each(|value| default_value(schema, item, value));
            }
        }
        (Type::Map(id), Value::Object(map)) => {
            let item = schema.map(id).value;
            if matches!(item, Type::Struct(_) | Type::List(_) | Type::Map(_)) {
                map.values_mut()
                    .for_each(|value| default_value(schema, item, value));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(kind: (&str, &str, &str), mut value: Value, expect: Value) {
        let schema = Schema::global();
        let id = schema.kind(kind.0, kind.1, kind.2).expect("kind");
        apply_defaults(schema, id, &mut value);
        assert_eq!(value, expect);
    }

    #[test]
    fn declared_defaults_only() {
        check(
            ("", "v1", "Service"),
            json!({"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}}),
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
        );
        check(
            ("apps", "v1", "Deployment"),
            json!({"spec": {"template": {"spec": {"containers": [{"ports": [{"containerPort": 1}]}]}}}}),
            json!({"spec": {"template": {"spec": {"containers": [
                {"ports": [{"containerPort": 1, "protocol": "TCP"}]}]}}}}),
        );
        check(
            ("", "v1", "ReplicationController"),
            json!({"spec": {}}),
            json!({"spec": {"replicas": 1}}),
        );
        check(("", "v1", "ConfigMap"), json!({}), json!({}));
    }
}
