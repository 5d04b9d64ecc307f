//! How tests of rules look at them: an object goes in as a client sends it, errors come out as text.

use serde_json::Value;

use super::Rules;

/// The errors about a new object.
pub(super) fn created(rules: &dyn Rules, mut object: Value) -> Vec<String> {
    rules.default(&mut object);
    rules.prepare_create(&mut object);
    let mut errors = Vec::new();
    rules.validate_create(&object, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

/// The errors about a change of an object that was created before.
pub(super) fn updated(rules: &dyn Rules, mut object: Value, old: &Value) -> Vec<String> {
    let mut old = old.clone();
    rules.default(&mut old);
    rules.prepare_create(&mut old);
    rules.default(&mut object);
    rules.prepare_update(&mut object, &old);
    let mut errors = Vec::new();
    rules.validate_update(&object, &old, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

/// An object as it is stored when it is created.
pub(super) fn stored(rules: &dyn Rules, mut object: Value) -> Value {
    rules.default(&mut object);
    rules.prepare_create(&mut object);
    object
}
