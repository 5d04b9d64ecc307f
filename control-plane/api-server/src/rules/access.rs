//! Roles, their bindings, and requests for certificates.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt, path_segment_errors};
use serde_json::{Map, Value};

use super::Rules;
use super::checks::{Errors, immutable, invalid_each};
use super::values::{each, fill_text, get_mut};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Roles and cluster roles.
pub(super) struct Role {
    pub namespaced: bool,
}

impl Rules for Role {
    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let list = FieldPath::root("rules");
        for (i, rule) in object.list(&["rules"]).iter().enumerate() {
            let path = list.index(i);
            if rule.list(&["verbs"]).is_empty() {
                errors.push(FieldError::required(
                    &path.child("verbs"),
                    "verbs must contain at least one value",
                ));
            }
            let count = |field: &str| rule.list(&[field]).len();
            if count("nonResourceURLs") > 0 {
                let urls = path.child("nonResourceURLs");
                let value = || Value::from(rule.list(&["nonResourceURLs"]).to_vec());
                if self.namespaced {
                    let detail = "namespaced rules cannot apply to non-resource URLs";
                    errors.push(FieldError::invalid(&urls, value(), detail));
                }
                if count("apiGroups") + count("resources") + count("resourceNames") > 0 {
                    let detail =
                        "rules cannot apply to both regular resources and non-resource URLs";
                    errors.push(FieldError::invalid(&urls, value(), detail));
                }
                continue;
            }
            if count("apiGroups") == 0 {
                let detail = "resource rules must supply at least one api group";
                errors.push(FieldError::required(&path.child("apiGroups"), detail));
            }
            if count("resources") == 0 {
                let detail = "resource rules must supply at least one resource";
                errors.push(FieldError::required(&path.child("resources"), detail));
            }
        }
    }
}

/// Role bindings and cluster role bindings.
pub(super) struct RoleBinding {
    pub namespaced: bool,
}

impl Rules for RoleBinding {
    fn default(&self, object: &mut Value) {
        if let Some(role) = get_mut(object, &["roleRef"]) {
            fill_text(role, "apiGroup", RBAC);
        }
        for subject in each(object, "subjects") {
            if matches!(subject.text(&["kind"]), "User" | "Group") {
                fill_text(subject, "apiGroup", RBAC);
            }
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("roleRef");
        let role = |field: &str| object.text(&["roleRef", field]);
        if role("apiGroup") != RBAC {
            errors.push(FieldError::not_supported(
                &path.child("apiGroup"),
                role("apiGroup"),
                &[RBAC],
            ));
        }
        let kinds: &[&str] = if self.namespaced {
            &["ClusterRole", "Role"]
        } else {
            &["ClusterRole"]
        };
        if !kinds.contains(&role("kind")) {
            errors.push(FieldError::not_supported(
                &path.child("kind"),
                role("kind"),
                kinds,
            ));
        }
        match role("name") {
            "" => errors.push(FieldError::required(&path.child("name"), "")),
            name => invalid_each(&path.child("name"), name, path_segment_errors(name), errors),
        }
        let list = FieldPath::root("subjects");
        for (i, subject) in object.list(&["subjects"]).iter().enumerate() {
            self.subject(subject, &list.index(i), errors);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(object, errors);
        if object.field(&["roleRef"]) != old.field(&["roleRef"]) {
            let value = object.field(&["roleRef"]).cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(
                &FieldPath::root("roleRef"),
                value,
                "cannot change roleRef",
            ));
        }
    }
}

impl RoleBinding {
    fn subject(&self, subject: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
        let text = |field: &str| subject.text(&[field]);
        if text("name").is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        match text("kind") {
            "ServiceAccount" => {
                if !text("apiGroup").is_empty() {
                    errors.push(FieldError::not_supported(
                        &path.child("apiGroup"),
                        text("apiGroup"),
                        &[""],
                    ));
                }
                if !self.namespaced && text("namespace").is_empty() {
                    errors.push(FieldError::required(&path.child("namespace"), ""));
                }
            }
            "User" | "Group" => {
                if text("apiGroup") != RBAC {
                    errors.push(FieldError::not_supported(
                        &path.child("apiGroup"),
                        text("apiGroup"),
                        &[RBAC],
                    ));
                }
            }
            other => {
                let supported = ["ServiceAccount", "User", "Group"];
                errors.push(FieldError::not_supported(
                    &path.child("kind"),
                    other,
                    &supported,
                ));
            }
        }
    }
}

pub(super) struct SigningRequest;

impl Rules for SigningRequest {
    fn default(&self, object: &mut Value) {
        let Some(spec) = get_mut(object, &["spec"]) else {
            return;
        };
        if spec.list(&["usages"]).is_empty() {
            spec.set(&["usages"], vec!["digital signature", "key encipherment"]);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], Map::new());
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        // What was asked for, and by whom, never changes.
        if let Some(spec) = old.field(&["spec"]) {
            object.set(&["spec"], spec.clone());
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("spec");
        if object.text(&["spec", "request"]).is_empty() {
            let detail = "PEM block type must be CERTIFICATE REQUEST";
            errors.push(FieldError::invalid(&path.child("request"), "", detail));
        }
        if object.list(&["spec", "usages"]).is_empty() {
            errors.push(FieldError::required(
                &path.child("usages"),
                "usages must contain at least one value",
            ));
        }
        let signer = object.text(&["spec", "signerName"]);
        match signer.split_once('/') {
            Some((domain, name)) if domain.contains('.') && !name.is_empty() => {}
            _ if signer.is_empty() => {
                errors.push(FieldError::required(&path.child("signerName"), ""))
            }
            _ => {
                let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
                errors.push(FieldError::invalid(
                    &path.child("signerName"),
                    signer,
                    detail,
                ));
            }
        }
        if let Some(seconds) = object
            .number(&["spec", "expirationSeconds"])
            .filter(|seconds| *seconds < 600)
        {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.push(FieldError::invalid(
                &path.child("expirationSeconds"),
                seconds,
                detail,
            ));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        immutable(object, old, &["spec"], errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::check::{created, stored, updated};

    #[test]
    fn bindings_keep_their_role() {
        let binding = |role: &str| json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": role}, "subjects": [{"kind": "User", "name": "u"}]});
        let rules = RoleBinding { namespaced: true };
        assert_eq!(created(&rules, binding("a")), [""; 0]);
        assert_eq!(
            stored(&rules, binding("a"))["subjects"][0]["apiGroup"],
            RBAC
        );
        let errors = updated(&rules, binding("b"), &binding("a"));
        assert!(errors[0].ends_with("cannot change roleRef"), "{errors:?}");
        let cluster = RoleBinding { namespaced: false };
        assert_eq!(
            created(&cluster, binding("a")),
            ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
        );
    }

    #[test]
    fn rules_need_verbs_and_resources() {
        let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""]}]});
        assert_eq!(
            created(&Role { namespaced: true }, role),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].resources: Required value: resource rules must supply at least one resource"
            ]
        );
    }
}
