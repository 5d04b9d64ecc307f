//! Namespaces and service accounts.

use api_machinery::{ObjectExt, ObjectMutExt};
use serde_json::{Value, json};

use super::Rules;
use super::checks::Errors;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

pub(super) struct Namespace;

impl Rules for Namespace {
    fn default(&self, namespace: &mut Value) {
        label(namespace);
    }

    fn prepare_create(&self, namespace: &mut Value) {
        // A name that was generated is known only now.
        label(namespace);
        let mut finalizers = namespace.list(&["spec", "finalizers"]).to_vec();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        namespace.set(&["spec", "finalizers"], finalizers);
        namespace.set(&["status"], json!({"phase": "Active"}));
    }

    fn prepare_update(&self, namespace: &mut Value, old: &Value) {
        // Only `/finalize` changes these.
        match old.field(&["spec", "finalizers"]) {
            Some(finalizers) => namespace.set(&["spec", "finalizers"], finalizers.clone()),
            None => drop(namespace.remove_field(&["spec", "finalizers"])),
        }
    }

    fn validate_create(&self, _namespace: &Value, _errors: &mut Errors) {}
}

fn label(namespace: &mut Value) {
    let name = namespace.name().to_owned();
    if !name.is_empty() {
        namespace.set(&["metadata", "labels", NAME_LABEL], name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::stored;

    #[test]
    fn namespaces_carry_their_name_and_finalizer() {
        assert_eq!(
            stored(&Namespace, json!({"metadata": {"name": "prod"}})),
            json!({"metadata": {"name": "prod", "labels": {"kubernetes.io/metadata.name": "prod"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
    }
}
