//! What a node may do, as a table.

use serde_json::json;

use super::*;
use crate::testing::Objects;

fn reader() -> Arc<Objects> {
    let pod = |name: &str, node: &str| {
        json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {
                "nodeName": node,
                "serviceAccountName": format!("sa-{name}"),
                "imagePullSecrets": [{"name": format!("pull-{name}")}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": format!("volume-{name}")}},
                    {"name": "b", "projected": {"sources": [
                        {"secret": {"name": format!("projected-{name}")}},
                        {"configMap": {"name": format!("projected-{name}")}},
                    ]}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": format!("claim-{name}")}},
                    {"name": "d", "ephemeral": {}},
                ],
                "containers": [{
                    "env": [{"valueFrom": {"secretKeyRef": {"name": format!("key-{name}")}}}],
                    "envFrom": [{"configMapRef": {"name": format!("env-{name}")}}],
                }],
            },
        })
    };
    let volume = json!({
        "metadata": {"name": "pv"},
        "spec": {
            "claimRef": {"namespace": "default", "name": "claim-mine"},
            "csi": {"nodePublishSecretRef": {"name": "csi", "namespace": "default"}},
        },
    });
    let objects = Objects::default();
    objects.put("", "pods", pod("mine", "n1"));
    objects.put("", "pods", pod("other", "n2"));
    objects.put("", "persistentvolumes", volume);
    Arc::new(objects)
}

fn decide(user: &UserInfo, request: &str, field_selector: &str) -> Decision {
    let (verb, rest) = request.split_once(' ').expect("VERB PATH");
    let (group, rest) = rest.split_once(':').unwrap_or(("", rest));
    let mut parts = rest.split('/').chain(std::iter::repeat(""));
    let [namespace, resource, name, subresource] =
        std::array::from_fn(|_| parts.next().unwrap_or_default());
    NodeAuthorizer::new(reader()).decide(
        user,
        &AccessQuery {
            verb,
            is_resource: true,
            group,
            namespace,
            resource,
            name,
            subresource,
            field_selector,
            ..AccessQuery::default()
        },
    )
}

#[test]
fn a_node_sees_what_its_pods_need() {
    let user = UserInfo {
        name: "system:node:n1".into(),
        groups: vec![GROUP.into()],
        ..UserInfo::default()
    };
    let check = |request: &str, expect: bool| {
        let decision = decide(&user, request, "");
        assert_eq!(
            decision.is_allowed(),
            expect,
            "{request}: {}",
            decision.reason
        );
    };
    for kind in ["pull", "volume", "projected", "key"] {
        check(&format!("get default/secrets/{kind}-mine"), true);
        check(&format!("watch default/secrets/{kind}-mine"), true);
        check(&format!("get default/secrets/{kind}-other"), false);
        check(&format!("get elsewhere/secrets/{kind}-mine"), false);
    }
    check("get default/secrets/csi", true);
    check("list default/secrets", false);
    check("update default/secrets/key-mine", false);
    check("get default/configmaps/env-mine", true);
    check("get default/configmaps/projected-mine", true);
    check("get default/configmaps/env-other", false);
    check("get default/persistentvolumeclaims/claim-mine", true);
    check("get default/persistentvolumeclaims/mine-d", true);
    check("get default/persistentvolumeclaims/claim-other", false);
    check("get /persistentvolumes/pv", true);
    check("create default/serviceaccounts/sa-mine/token", true);
    check("create default/serviceaccounts/sa-other/token", false);
    check("get default/pods/mine", true);
    check("get default/pods/other", false);
    check("list /pods", false);
    check("get /nodes/n1", true);
    check("get /nodes/n2", false);
    check("update coordination.k8s.io:kube-node-lease/leases/n1", true);
    check(
        "update coordination.k8s.io:kube-node-lease/leases/n2",
        false,
    );
    check("update coordination.k8s.io:default/leases/n1", false);
    check("list /services", true);
    check("create authentication.k8s.io:/tokenreviews", true);
    check("delete /namespaces/default", false);
    assert!(decide(&user, "list /pods", "spec.nodeName=n1").is_allowed());
    assert!(!decide(&user, "list /pods", "spec.nodeName=n2").is_allowed());
    let hidden = r"status.phase!=a\,spec.nodeName=n1";
    assert!(!decide(&user, "list /pods", hidden).is_allowed());
    let impostor = UserInfo {
        groups: Vec::new(),
        ..user
    };
    assert!(!decide(&impostor, "get default/pods/mine", "").is_allowed());
}
