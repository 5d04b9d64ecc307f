//! Decodes an object by its type, in place and in one pass: types are checked, unknown fields found and pruned, and
//! the value brought into the form in which Go's decoder and encoder would have left it.
//!
//! It is here because every write goes through it. It applies no defaults and knows no rules of kinds.

mod error;
mod scalar;

use serde_json::{Map, Value};

pub use error::{DecodeError, StrictError, strict_decoding_message};

use super::json::prefix;
use super::zero::{fill, omitted, zero};
use super::{Definition, DefinitionForm, Field, Schema, Type, TypeId};
use scalar::{GoType, value_name};

/// Upstream collects no more strict errors than this.
const MAX_STRICT_ERRORS: usize = 100;

/// What an object stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The whole object: nulls and empty optional fields go, zero values that Go always writes are added, so that equal
    /// objects have equal values (`resources: {}`, no `hostNetwork: false`).
    Complete,
    /// Part of an object (an apply configuration): what is stated stays stated, nulls and zero values included.
    Partial,
}

/// Decodes `value` as the type `id`.
///
/// Unknown fields are removed and reported; whether they are ignored, warned of or refused is the caller's
/// `fieldValidation`. Field names are case-sensitive. Times are brought to UTC, quantities to their canonical text.
/// Duplicate fields are found by [`super::parse_json`].
///
/// # Errors
/// The first value of a wrong type, with the message of upstream's decoder; the value is then half-decoded.
pub fn decode(
    schema: &Schema,
    id: TypeId,
    value: &mut Value,
    form: Form,
) -> Result<Vec<StrictError>, DecodeError> {
    let mut decoder = Decoder {
        schema,
        form,
        unknown: Vec::new(),
    };
    decoder.value(Type::Struct(id), value, None)?;
    Ok(decoder
        .unknown
        .into_iter()
        .map(StrictError::Unknown)
        .collect())
}

struct Decoder<'s> {
    schema: &'s Schema,
    form: Form,
    /// Paths relative to the subtree that is being decoded; they grow on the way out.
    unknown: Vec<String>,
}

impl<'s> Decoder<'s> {
    fn value(&mut self, ty: Type, value: &mut Value, go: GoType) -> Result<(), DecodeError> {
        match (ty, &mut *value) {
            (Type::String, Value::String(_)) | (Type::Bool, Value::Bool(_)) => Ok(()),
            (Type::Struct(id), value) => {
                let definition = self.schema.definition(id);
                match value {
                    _ if definition.form == DefinitionForm::Any => Ok(()),
                    Value::Object(map) => self.structure(definition, map),
                    other => Err(DecodeError::mismatch(
                        value_name(other),
                        go.unwrap_or(definition.go_name()),
                    )),
                }
            }
            (Type::List(id), Value::Array(items)) => {
                let item = self.schema.list(id).item;
                let go = go.and_then(|go| go.strip_prefix("[]"));
                self.list(item, items, go)
            }
            (Type::Map(id), Value::Object(map)) => {
                let item = self.schema.map(id).value;
                let go = go.and_then(|go| {
                    go.strip_prefix("map[")
                        .and_then(|rest| Some(rest.split_once(']')?.1))
                });
                self.map(item, map, go)
            }
            _ => scalar::check(self.schema, ty, value, go),
        }
    }

    fn structure(
        &mut self,
        definition: &'s Definition,
        map: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let mut failed = None;
        map.retain(|key, value| {
            if failed.is_some() {
                return true;
            }
            let Some(field) = definition.field(key) else {
                self.report(key.clone());
                return false;
            };
            match self.field(field, value) {
                Ok(keep) => keep,
                Err(error) => {
                    failed = Some(error.within(definition, field));
                    true
                }
            }
        });
        match failed {
            Some(error) => Err(error),
            None => {
                if self.form == Form::Complete {
                    fill(self.schema, definition, map);
                }
                Ok(())
            }
        }
    }

    /// Decodes a field's value; whether to keep the field.
    fn field(&mut self, field: &Field, value: &mut Value) -> Result<bool, DecodeError> {
        if value.is_null() {
            return Ok(self.form == Form::Partial);
        }
        let before = self.unknown.len();
        self.value(field.ty, value, field.go_type)?;
        self.prefix(before, field.name);
        Ok(self.form == Form::Partial || !omitted(field, value))
    }

    fn list(&mut self, item: Type, items: &mut [Value], go: GoType) -> Result<(), DecodeError> {
        if item == Type::String && items.iter().all(Value::is_string) {
            return Ok(());
        }
        for (index, value) in items.iter_mut().enumerate() {
            if value.is_null() {
                self.null(item, value);
                continue;
            }
            let before = self.unknown.len();
            self.value(item, value, go)?;
            if self.unknown.len() > before {
                self.prefix(before, &format!("[{index}]"));
            }
        }
        Ok(())
    }

    fn map(
        &mut self,
        item: Type,
        map: &mut Map<String, Value>,
        go: GoType,
    ) -> Result<(), DecodeError> {
        for (key, value) in map.iter_mut() {
            match value {
                Value::String(_) if item == Type::String => {}
                Value::Null => self.null(item, value),
                _ => {
                    let before = self.unknown.len();
                    self.value(item, value, go)?;
                    self.prefix(before, key);
                }
            }
        }
        Ok(())
    }

    /// A null element is the zero value of the element's type.
    fn null(&self, ty: Type, value: &mut Value) {
        if self.form == Form::Complete {
            *value = zero(self.schema, ty);
        }
    }

    fn report(&mut self, path: String) {
        if self.unknown.len() < MAX_STRICT_ERRORS {
            self.unknown.push(path);
        }
    }

    fn prefix(&mut self, before: usize, parent: &str) {
        for path in &mut self.unknown[before..] {
            prefix(path, parent);
        }
    }
}

#[cfg(test)]
mod tests;
