//! What is particular to one kind: defaults, what clients may not set, validation, update rules.
//!
//! The pipeline handles every kind alike; where Kubernetes treats a kind in a way of its own, that kind has a file in
//! `rules/` that implements [`Rules`] and a row in [`TABLE`]. Every method's default is what most kinds do. Rules are pure:
//! they read nothing but their arguments.

use api_machinery::FieldError;
use serde_json::Value;

/// The rules of one kind. Objects are in the storage version, defaulted by the schema, with well-formed metadata.
pub trait Rules: Send + Sync {
    /// Defaults that the schema cannot express (they depend on other fields). Runs on every object decoded from a
    /// client, after the schema's own defaults.
    fn default(&self, _object: &mut Value) {}

    /// Sets and clears what is the server's own. `status` is gone already where it is a subresource.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Sets and clears what is the server's own. `status` is the old one already where it is a subresource.
    fn prepare_update(&self, _object: &mut Value, _old: &Value) {}

    /// For an update through `/status`: all but `status` and metadata is the old one already.
    fn prepare_status_update(&self, _object: &mut Value, _old: &Value) {}

    fn validate_create(&self, _object: &Value, _errors: &mut Vec<FieldError>) {}

    /// Also responsible for what [`Rules::validate_create`] checks, as far as an update could break it.
    fn validate_update(&self, object: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        self.validate_create(object, errors);
    }

    fn validate_status_update(&self, _object: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {
    }

    /// Sentences for the user's `Warning` headers.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }
}

/// The rules of kinds that have none of their own.
struct Plain;

impl Rules for Plain {}

/// One row: group, kind, rules.
type Row = (&'static str, &'static str, &'static dyn Rules);

/// Kinds with rules of their own.
const TABLE: &[Row] = &[];

/// The rules of a kind.
pub fn rules_for(group: &str, kind: &str) -> &'static dyn Rules {
    TABLE
        .iter()
        .find(|(g, k, _)| *g == group && *k == kind)
        .map_or(&Plain, |(_, _, rules)| *rules)
}
