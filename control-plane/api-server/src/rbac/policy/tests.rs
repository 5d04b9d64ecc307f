//! Decisions from roles and bindings, and that they follow changes.

use serde_json::json;

use super::*;
use crate::rbac::bootstrap_objects;
use crate::testing::Objects;

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo {
        name: name.into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        ..UserInfo::default()
    }
}

fn cluster() -> (Arc<Objects>, Rbac) {
    let objects = Arc::new(Objects::default());
    for object in bootstrap_objects() {
        objects.put(GROUP, object.resource, object.object);
    }
    (objects.clone(), Rbac::new(objects))
}

fn pods<'a>(verb: &'a str, namespace: &'a str) -> AccessQuery<'a> {
    AccessQuery {
        verb,
        is_resource: true,
        resource: "pods",
        namespace,
        ..AccessQuery::default()
    }
}

#[test]
fn bootstrap_policy_decides() {
    let (_, rbac) = cluster();
    let check = |user: &UserInfo, query: AccessQuery<'_>, expect: bool| {
        assert_eq!(
            rbac.decide(user, &query).is_allowed(),
            expect,
            "{} {query:?}",
            user.name
        );
    };
    let anonymous = user("system:anonymous", &["system:unauthenticated"]);
    let someone = user("jane", &["system:authenticated"]);
    let path = |path| AccessQuery {
        verb: "get",
        path,
        ..AccessQuery::default()
    };
    check(&anonymous, path("/healthz"), true);
    check(&anonymous, path("/version"), true);
    check(&anonymous, path("/api"), false);
    check(&anonymous, pods("list", "default"), false);
    check(&someone, path("/apis/apps/v1"), true);
    check(&someone, path("/metrics"), false);
    check(&someone, pods("list", "default"), false);
    let review = AccessQuery {
        verb: "create",
        is_resource: true,
        group: "authorization.k8s.io",
        resource: "selfsubjectaccessreviews",
        ..AccessQuery::default()
    };
    check(&someone, review, true);
    let info = AccessQuery {
        verb: "get",
        is_resource: true,
        resource: "configmaps",
        namespace: "kube-public",
        name: "cluster-info",
        ..AccessQuery::default()
    };
    check(&anonymous, info, true);
    check(
        &anonymous,
        AccessQuery {
            name: "other",
            ..info
        },
        false,
    );
    let controller = user(
        "system:serviceaccount:kube-system:replicaset-controller",
        &["system:authenticated"],
    );
    check(&controller, pods("create", "x"), true);
    check(
        &controller,
        AccessQuery {
            resource: "secrets",
            ..pods("get", "x")
        },
        false,
    );
}

#[test]
fn bindings_count_in_their_namespace_and_changes_count_at_once() {
    let (objects, rbac) = cluster();
    let jane = user("jane", &[]);
    assert!(!rbac.decide(&jane, &pods("list", "a")).is_allowed());
    let binding = |role: &str| {
        json!({
            "metadata": {"namespace": "a", "name": "b"},
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": role},
            "subjects": [{"kind": "User", "name": "jane", "apiGroup": GROUP}],
        })
    };
    objects.put(GROUP, "rolebindings", binding("r"));
    let decision = rbac.decide(&jane, &pods("list", "a"));
    assert_eq!(
        decision.reason,
        r#"RBAC: role.rbac.authorization.k8s.io "r" not found"#
    );
    let role = json!({
        "metadata": {"namespace": "a", "name": "r"},
        "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}],
    });
    objects.put(GROUP, "roles", role);
    let decision = rbac.decide(&jane, &pods("list", "a"));
    assert_eq!(
        decision,
        Decision::allow(r#"RBAC: allowed by RoleBinding "b/a" of Role "r" to User "jane""#)
    );
    assert!(!rbac.decide(&jane, &pods("list", "b")).is_allowed());
    assert!(!rbac.decide(&jane, &pods("list", "")).is_allowed());
    objects.remove(GROUP, "rolebindings", "a", "b");
    assert!(!rbac.decide(&jane, &pods("list", "a")).is_allowed());
}
