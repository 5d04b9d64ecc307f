//! Reviews as `kubectl auth can-i` and webhooks ask them.

use std::sync::Arc;

use super::*;
use crate::rbac::bootstrap_objects;
use crate::testing::{Objects, authentication};

fn reviews() -> Reviews {
    let objects = Arc::new(Objects::default());
    for object in bootstrap_objects() {
        objects.put("rbac.authorization.k8s.io", object.resource, object.object);
    }
    Reviews::new(authentication(objects.clone()), Authorization::new(objects))
}

fn check(kind: &str, spec: Value, expect: Result<Value, &str>) {
    let user = UserInfo {
        name: "jane".into(),
        groups: vec!["system:authenticated".into()],
        ..UserInfo::default()
    };
    let answer = reviews().create(&user, "a", kind, json!({"spec": spec}));
    let answer = answer.map(|o| o["status"].clone()).map_err(|s| s.message);
    assert_eq!(answer, expect.map_err(String::from), "{kind} {spec}");
}

#[test]
fn rights_are_answered() {
    let pods = json!({"verb": "list", "resource": "pods", "namespace": "a"});
    check(
        "SelfSubjectAccessReview",
        json!({"resourceAttributes": pods}),
        Ok(json!({"allowed": false})),
    );
    check(
        "SelfSubjectAccessReview",
        json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}}),
        Ok(json!({
            "allowed": true,
            "reason": "RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to Group \"system:authenticated\"",
        })),
    );
    let masters = json!({"user": "x", "groups": ["system:masters"], "resourceAttributes": pods});
    check(
        "SubjectAccessReview",
        masters.clone(),
        Ok(json!({"allowed": true})),
    );
    check(
        "LocalSubjectAccessReview",
        masters,
        Ok(json!({"allowed": true})),
    );
    check(
        "LocalSubjectAccessReview",
        json!({"user": "x", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "b"}}),
        Err(
            "LocalSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes.namespace: Invalid value: \"b\": must match metadata.namespace",
        ),
    );
    check(
        "SubjectAccessReview",
        json!({"resourceAttributes": {"verb": "get"}}),
        Err(
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ),
    );
}

#[test]
fn identity_is_answered() {
    check(
        "SelfSubjectReview",
        json!({}),
        Ok(json!({"userInfo": {"username": "jane", "groups": ["system:authenticated"]}})),
    );
    check(
        "TokenReview",
        json!({}),
        Err("token is required for TokenReview in authentication"),
    );
    let reviews = reviews();
    let bad = reviews.create(
        &UserInfo::default(),
        "",
        "TokenReview",
        json!({"spec": {"token": "x"}}),
    );
    assert!(
        bad.expect("answered")["status"]["error"]
            .as_str()
            .is_some_and(|e| e.contains("invalid bearer token"))
    );
    let rules = reviews.create(
        &UserInfo::default(),
        "",
        "SelfSubjectRulesReview",
        json!({"spec": {"namespace": "a"}}),
    );
    assert_eq!(rules.expect("answered")["status"]["incomplete"], false);
}
