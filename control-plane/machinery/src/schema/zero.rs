//! Go's zero values: what its decoder makes of `null`, what its encoder leaves out and what it always writes.
//!
//! It is here so that an object reads the same whether a field was absent, null or explicitly zero.

use serde_json::{Map, Value};

use super::{Definition, DefinitionForm, Field, Schema, Type};

/// The zero value of a type; `Null` for those that Go holds as nil.
pub(super) fn zero(schema: &Schema, ty: Type) -> Value {
    match ty {
        Type::String => Value::String(String::new()),
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Value::from(0),
        Type::Quantity => Value::String("0".into()),
        Type::Bytes | Type::Time | Type::MicroTime | Type::List(_) | Type::Map(_) => Value::Null,
        Type::Struct(id) => {
            let definition = schema.definition(id);
            if definition.form == DefinitionForm::Any {
                return Value::Null;
            }
            let mut map = Map::new();
            fill(schema, definition, &mut map);
            Value::Object(map)
        }
    }
}

/// Adds the fields that Go's encoder writes in any case and that are absent.
pub(super) fn fill(schema: &Schema, definition: &Definition, map: &mut Map<String, Value>) {
    for index in &definition.always_encoded {
        let field = &definition.fields[usize::from(*index)];
        if !map.contains_key(field.name) {
            map.insert(field.name.to_owned(), zero(schema, field.ty));
        }
    }
}

/// Whether Go's encoder leaves this value of the field out.
pub(super) fn omitted(field: &Field, value: &Value) -> bool {
    if field.pointer() || !(field.omit_empty() || field.omit_zero()) {
        return false;
    }
    match (field.ty, value) {
        (Type::Quantity | Type::IntOrString | Type::Time | Type::MicroTime, _) => false,
        (Type::Struct(_), Value::Object(map)) => field.omit_zero() && map.is_empty(),
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Bool(value)) => !value,
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        (_, Value::Array(list)) => list.is_empty(),
        (_, Value::Object(map)) => map.is_empty(),
        (_, Value::Null) => true,
    }
}
