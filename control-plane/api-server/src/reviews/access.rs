//! SubjectAccessReview and its kin: may someone do something?

use std::collections::BTreeMap;

use api_machinery::{FieldError, FieldPath, ObjectExt, Status, StatusResult};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Reviews;
use crate::authz::AccessQuery;
use crate::identity::{UserInfo, Verdict};

const GROUP: &str = "authorization.k8s.io";

/// `SubjectAccessReview`: about any user.
pub(super) fn subject(
    reviews: &Reviews,
    _: &UserInfo,
    _: &str,
    object: &Value,
) -> StatusResult<Value> {
    let mut errors = check_attributes(object);
    errors.extend(check_subject(object));
    refuse("SubjectAccessReview", &errors)?;
    Ok(answer(reviews, &named_user(object), object))
}

/// `SelfSubjectAccessReview`: about the one who asks.
pub(super) fn own(
    reviews: &Reviews,
    user: &UserInfo,
    _: &str,
    object: &Value,
) -> StatusResult<Value> {
    refuse("SelfSubjectAccessReview", &check_attributes(object))?;
    Ok(answer(reviews, user, object))
}

/// `LocalSubjectAccessReview`: about any user, in one namespace.
pub(super) fn local(
    reviews: &Reviews,
    _: &UserInfo,
    namespace: &str,
    object: &Value,
) -> StatusResult<Value> {
    let mut errors = check_attributes(object);
    errors.extend(check_subject(object));
    let spec = FieldPath::root("spec");
    if !object["spec"]["nonResourceAttributes"].is_null() {
        let path = spec.child("nonResourceAttributes");
        let value = object["spec"]["nonResourceAttributes"].clone();
        errors.push(FieldError::invalid(
            &path,
            value,
            "disallowed on this kind of request",
        ));
    }
    let given = object.text(&["spec", "resourceAttributes", "namespace"]);
    if given != namespace {
        let attributes = spec.child("resourceAttributes");
        let path = attributes.child("namespace");
        errors.push(FieldError::invalid(
            &path,
            given,
            "must match metadata.namespace",
        ));
    }
    refuse("LocalSubjectAccessReview", &errors)?;
    Ok(answer(reviews, &named_user(object), object))
}

fn refuse(kind: &str, errors: &[FieldError]) -> StatusResult<()> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(GROUP, kind, "", errors))
    }
}

fn check_attributes(object: &Value) -> Vec<FieldError> {
    let spec = FieldPath::root("spec");
    let (resource, path) = (
        &object["spec"]["resourceAttributes"],
        &object["spec"]["nonResourceAttributes"],
    );
    match (resource.is_null(), path.is_null()) {
        (false, false) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            vec![FieldError::invalid(
                &spec.child("nonResourceAttributes"),
                path.clone(),
                detail,
            )]
        }
        (true, true) => {
            let detail =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![FieldError::invalid(
                &spec.child("resourceAttributes"),
                Value::Null,
                detail,
            )]
        }
        _ => Vec::new(),
    }
}

fn check_subject(object: &Value) -> Option<FieldError> {
    let nobody =
        object.text(&["spec", "user"]).is_empty() && object.list(&["spec", "groups"]).is_empty();
    let spec = FieldPath::root("spec");
    nobody.then(|| {
        FieldError::invalid(
            &spec.child("user"),
            "",
            "at least one of user or group must be specified",
        )
    })
}

fn named_user(object: &Value) -> UserInfo {
    let groups = object.list(&["spec", "groups"]).iter();
    UserInfo {
        name: object.text(&["spec", "user"]).into(),
        uid: object.text(&["spec", "uid"]).into(),
        groups: groups
            .filter_map(|g| g.as_str().map(String::from))
            .collect(),
        extra: BTreeMap::deserialize(&object["spec"]["extra"]).unwrap_or_default(),
    }
}

fn answer(reviews: &Reviews, user: &UserInfo, object: &Value) -> Value {
    let (resource, path) = (
        &object["spec"]["resourceAttributes"],
        &object["spec"]["nonResourceAttributes"],
    );
    let selector = field_selector(&resource["fieldSelector"]);
    let query = if resource.is_null() {
        AccessQuery {
            verb: path.text(&["verb"]),
            path: path.text(&["path"]),
            ..AccessQuery::default()
        }
    } else {
        AccessQuery {
            verb: resource.text(&["verb"]),
            is_resource: true,
            group: resource.text(&["group"]),
            version: resource.text(&["version"]),
            resource: resource.text(&["resource"]),
            subresource: resource.text(&["subresource"]),
            namespace: resource.text(&["namespace"]),
            name: resource.text(&["name"]),
            field_selector: &selector,
            ..AccessQuery::default()
        }
    };
    let decision = reviews.authorization.decide(user, &query);
    let mut status = json!({"allowed": decision.is_allowed()});
    if decision.verdict == Verdict::Deny {
        status["denied"] = true.into();
    }
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    status
}

/// As a request would have it; requirements that are no equality say nothing to our authorizers.
fn field_selector(selector: &Value) -> String {
    let raw = selector.text(&["rawSelector"]);
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let equalities =
        selector
            .list(&["requirements"])
            .iter()
            .filter_map(|r| match r.list(&["values"]) {
                [value] if r.text(&["operator"]) == "In" => {
                    Some(format!("{}={}", r.text(&["key"]), value.as_str()?))
                }
                _ => None,
            });
    equalities.collect::<Vec<_>>().join(",")
}
