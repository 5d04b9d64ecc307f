//! The review kinds: questions about rights and identity, answered at once and never stored.
//!
//! They are created like objects; the answer stands in their status. Knows nothing of HTTP.

mod access;
mod resources;

use api_machinery::{ObjectExt, Status, StatusResult};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::authn::Authentication;
use crate::authz::Authorization;
use crate::identity::UserInfo;
use crate::rbac::PolicyRule;

pub(crate) use resources::review_resources;

/// Answers reviews. Cheap to clone.
#[derive(Clone)]
pub struct Reviews {
    authentication: Authentication,
    authorization: Authorization,
}

type Handler = fn(&Reviews, &UserInfo, &str, &Value) -> StatusResult<Value>;

/// One row per kind.
const HANDLERS: [(&str, Handler); 6] = [
    ("SubjectAccessReview", access::subject),
    ("SelfSubjectAccessReview", access::own),
    ("LocalSubjectAccessReview", access::local),
    ("SelfSubjectRulesReview", own_rules),
    ("SelfSubjectReview", own_identity),
    ("TokenReview", token),
];

impl Reviews {
    pub fn new(authentication: Authentication, authorization: Authorization) -> Self {
        Self {
            authentication,
            authorization,
        }
    }

    /// Answers the review `object` of `user`: the same object with its status. `namespace` is that of the request.
    pub fn create(
        &self,
        user: &UserInfo,
        namespace: &str,
        kind: &str,
        mut object: Value,
    ) -> StatusResult<Value> {
        let (_, handler) = HANDLERS
            .iter()
            .find(|(name, _)| *name == kind)
            .ok_or_else(|| Status::internal_error(format!("{kind} is no review")))?;
        object["status"] = handler(self, user, namespace, &object)?;
        Ok(object)
    }
}

fn own_rules(reviews: &Reviews, user: &UserInfo, _: &str, object: &Value) -> StatusResult<Value> {
    let namespace = object.text(&["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, errors) = reviews.authorization.rules_for(user, namespace);
    let pick = |keep: fn(&PolicyRule) -> bool, rule: fn(&PolicyRule) -> Value| -> Vec<Value> {
        rules.iter().filter(|r| keep(r)).map(rule).collect()
    };
    let resource_rules = pick(
        |r| !r.resources.is_empty(),
        |r| {
            let mut rule =
                json!({"verbs": r.verbs, "apiGroups": r.api_groups, "resources": r.resources});
            if !r.resource_names.is_empty() {
                rule["resourceNames"] = json!(r.resource_names);
            }
            rule
        },
    );
    let path_rules = pick(
        |r| !r.non_resource_urls.is_empty(),
        |r| json!({"verbs": r.verbs, "nonResourceURLs": r.non_resource_urls}),
    );
    let mut status = json!({
        "resourceRules": resource_rules,
        "nonResourceRules": path_rules,
        "incomplete": !errors.is_empty(),
    });
    if !errors.is_empty() {
        status["evaluationError"] = errors.join(", ").into();
    }
    Ok(status)
}

fn own_identity(_: &Reviews, user: &UserInfo, _: &str, _: &Value) -> StatusResult<Value> {
    Ok(json!({"userInfo": user_value(user)}))
}

fn token(reviews: &Reviews, _: &UserInfo, _: &str, object: &Value) -> StatusResult<Value> {
    let token = object.text(&["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked = object.list(&["spec", "audiences"]).iter();
    let audiences: Vec<String> = asked.filter_map(|a| a.as_str().map(String::from)).collect();
    Ok(
        match reviews
            .authentication
            .token(token, &audiences, Timestamp::now())
        {
            Ok((user, good_for)) => {
                json!({"authenticated": true, "user": user_value(&user), "audiences": good_for})
            }
            Err(error) => json!({"user": {}, "error": format!("[invalid bearer token, {error}]")}),
        },
    )
}

fn user_value(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name});
    if !user.uid.is_empty() {
        value["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        value["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

#[cfg(test)]
mod tests;
