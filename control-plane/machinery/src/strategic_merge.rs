//! Strategic merge patch: a merge patch that knows from the schema which lists merge by which key.
//!
//! It is here because `kubectl apply`, `edit`, `label`, `set image` and `rollout undo` send it. It follows the
//! published semantics: `$patch`, `$retainKeys`, `$setElementOrder/FIELD`, `$deleteFromPrimitiveList/FIELD`.
//! It knows the schema table only; validation of the result is the caller's.

mod error;
mod list;
mod order;

use serde_json::{Map, Value};

pub use error::{StrategicMergeError, go_value};

use crate::schema::{Field, Schema, Type, TypeId};
use error::{bad_argument, no_field, not_a_struct};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList";

type Object = Map<String, Value>;

/// Applies `patch` to `original`, an object of the type `id`, and returns the patched object, not yet decoded: unknown
/// fields and wrong types of the patch are still in it.
///
/// # Errors
/// What [`StrategicMergeError`] says; a patch that is no object is one of them.
pub fn strategic_merge(
    schema: &Schema,
    id: TypeId,
    original: Value,
    patch: Value,
) -> Result<Value, StrategicMergeError> {
    match (original, patch) {
        (Value::Object(original), Value::Object(patch)) => {
            let merged = Merger { schema }.map(original, patch, Type::Struct(id))?;
            Ok(Value::Object(merged))
        }
        (Value::Object(_), patch) => Err(bad_argument("map[string]interface {}", &patch)),
        (original, _) => Err(bad_argument("map[string]interface {}", &original)),
    }
}

struct Merger<'s> {
    schema: &'s Schema,
}

impl<'s> Merger<'s> {
    fn map(
        &self,
        mut original: Object,
        mut patch: Object,
        scope: Type,
    ) -> Result<Object, StrategicMergeError> {
        if let Some(directive) = patch.get(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => {
                    patch.shift_remove(DIRECTIVE);
                    Ok(patch)
                }
                Some("delete") => Ok(Object::new()),
                _ => Err(StrategicMergeError::PatchType {
                    directive: go_value(directive),
                    map: go_value(&Value::Object(patch)),
                }),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.ordered_lists(&mut original, &mut patch, scope)?;
        for (key, value) in patch {
            match key.strip_prefix(DELETE_FROM_PRIMITIVE_LIST) {
                Some(rest) => {
                    let name = rest
                        .strip_prefix('/')
                        .ok_or(StrategicMergeError::PrimitiveList)?;
                    self.delete_from_list(&mut original, name, value, scope)?;
                }
                None => self.merge_field(&mut original, key, value, scope)?,
            }
        }
        Ok(original)
    }

    fn merge_field(
        &self,
        original: &mut Object,
        key: String,
        mut patch: Value,
        scope: Type,
    ) -> Result<(), StrategicMergeError> {
        if patch.is_null() {
            original.shift_remove(&key);
            return Ok(());
        }
        let Some(slot) = original.get_mut(&key) else {
            discard_nulls(&mut patch);
            if remove_directives(&mut patch) {
                original.insert(key, patch);
            }
            return Ok(());
        };
        match (slot, patch) {
            (Value::Object(known), Value::Object(patch)) => {
                let field = self.field(scope, &key)?;
                *known = if field.has_patch_strategy("replace") {
                    patch
                } else {
                    self.map(std::mem::take(known), patch, field.ty)?
                };
            }
            (Value::Array(known), Value::Array(patch)) => {
                let field = self.field(scope, &key)?;
                *known = if field.has_patch_strategy("merge") {
                    self.list(std::mem::take(known), patch, field)?
                } else {
                    patch
                };
            }
            (slot, mut patch) => {
                discard_nulls(&mut patch);
                if remove_directives(&mut patch) {
                    *slot = patch;
                } else {
                    original.shift_remove(&key);
                }
            }
        }
        Ok(())
    }

    fn delete_from_list(
        &self,
        original: &mut Object,
        name: &str,
        patch: Value,
        scope: Type,
    ) -> Result<(), StrategicMergeError> {
        match (original.get_mut(name), patch) {
            (Some(_), Value::Null) => {
                original.shift_remove(name);
            }
            (Some(Value::Array(known)), Value::Array(deleted)) => {
                self.field(scope, name)?;
                let deleted: std::collections::HashSet<_> =
                    deleted.iter().filter_map(order::key).collect();
                known.retain(|value| order::key(value).is_none_or(|key| !deleted.contains(&key)));
            }
            _ => {}
        }
        Ok(())
    }

    /// The field of the struct that is being merged; maps and values without a struct have none.
    fn field(&self, scope: Type, key: &str) -> Result<&'s Field, StrategicMergeError> {
        let Type::Struct(id) = scope else {
            return Err(not_a_struct(scope));
        };
        let definition = self.schema.definition(id);
        definition
            .field(key)
            .ok_or_else(|| no_field(definition.short_name(), key))
    }
}

/// Clears the fields of `original` that the patch's `$retainKeys` does not name; the patch may set no others.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), StrategicMergeError> {
    let Some(list) = patch.shift_remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(list) = list else {
        return Err(StrategicMergeError::RetainKeys);
    };
    let retained = |key: &String| list.iter().any(|name| name.as_str() == Some(key));
    let directive = |key: &String| {
        key.starts_with(DELETE_FROM_PRIMITIVE_LIST) || key.starts_with(SET_ELEMENT_ORDER)
    };
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !directive(key) && !retained(key))
    {
        return Err(StrategicMergeError::RetainKeys);
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

/// Nulls in a patch delete; where there is nothing to delete they mean nothing.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|_, value| {
            discard_nulls(value);
            !value.is_null()
        }),
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// Removes everything that is marked with a directive; `false` if that is the value itself.
fn remove_directives(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            if map.contains_key(DIRECTIVE) {
                return false;
            }
            map.retain(|_, value| remove_directives(value));
        }
        Value::Array(items) => items.retain_mut(remove_directives),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests;
