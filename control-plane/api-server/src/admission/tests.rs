//! Every plugin as a table: an object in, the changed object or the refusal out.

use api_client::User;
use jiff::Timestamp;

use super::*;
use crate::identity::UserInfo;
use crate::plugin::Operation;
use crate::testing::{Calls, Objects};

struct Cluster {
    objects: Arc<Objects>,
    calls: Arc<Calls>,
    dry_run: bool,
    plugins: Vec<Arc<dyn Admission>>,
    user: UserInfo,
}

impl Cluster {
    fn new() -> Self {
        let objects = Arc::new(Objects::default());
        let active =
            |name: &str| json!({"metadata": {"name": name}, "status": {"phase": "Active"}});
        objects.put("", "namespaces", active("a"));
        objects.put(
            "",
            "serviceaccounts",
            json!({"metadata": {"namespace": "a", "name": "default"}}),
        );
        let calls = Arc::new(Calls::default());
        let context = AdmissionContext {
            reader: objects.clone(),
            authorization: Authorization::new(objects.clone()),
            client: Client::new(calls.clone(), User::component("system:apiserver")),
            default_tolerations: DefaultTolerations::default(),
        };
        let user = UserInfo {
            name: "jane".into(),
            ..UserInfo::default()
        };
        Self {
            objects,
            calls,
            dry_run: true,
            plugins: admission_plugins(&context),
            user,
        }
    }

    /// Runs all plugins over a write; `resource` is `GROUP:PLURAL/SUBRESOURCE`.
    async fn write(
        &self,
        resource: &str,
        object: Value,
        old: Option<Value>,
    ) -> Result<(Value, Vec<String>), String> {
        let (group, resource) = resource.split_once(':').unwrap_or(("", resource));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let mut attributes = Attributes {
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            group: group.into(),
            version: "v1".into(),
            kind: String::new(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: object.namespace().into(),
            name: object.name().into(),
            object: Some(object),
            old: old.map(Arc::new),
            user: Arc::new(self.user.clone()),
            dry_run: self.dry_run,
            options: Value::Null,
            warnings: Vec::new(),
        };
        let handling: Vec<_> = self
            .plugins
            .iter()
            .filter(|p| p.handles(&attributes))
            .cloned()
            .collect();
        for plugin in &handling {
            plugin.admit(&mut attributes).await.map_err(|s| s.message)?;
        }
        for plugin in &handling {
            plugin.validate(&attributes).await.map_err(|s| s.message)?;
        }
        Ok((attributes.object.expect("kept"), attributes.warnings))
    }

    async fn refused(&self, resource: &str, object: Value, expect: &str) {
        assert_eq!(
            self.write(resource, object, None)
                .await
                .expect_err("refused"),
            expect
        );
    }
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"namespace": "a", "name": "p"}, "spec": {"containers": [{"name": "c"}]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

#[tokio::test]
async fn a_plain_pod_gets_what_every_pod_has() {
    let (pod, _) = Cluster::new()
        .write("pods", pod(json!({})), None)
        .await
        .expect("admitted");
    let volume = pod["spec"]["volumes"][0]["name"]
        .as_str()
        .expect("volume")
        .to_owned();
    assert!(
        volume.starts_with("kube-api-access-") && volume.len() == 21,
        "{volume}"
    );
    let mount = json!({"name": volume, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let expect = json!({
        "containers": [{"name": "c", "volumeMounts": [mount]}],
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "volumes": [{"name": volume, "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
            ],
            "defaultMode": 420,
        }}],
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
        "tolerations": [toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")],
    });
    assert_eq!(pod["spec"], expect);
}

#[tokio::test]
async fn namespaces_must_be_there_and_stay() {
    let cluster = Cluster::new();
    let config_map = |namespace: &str| json!({"metadata": {"namespace": namespace, "name": "x"}});
    cluster
        .refused(
            "configmaps",
            config_map("gone"),
            "namespaces \"gone\" not found",
        )
        .await;
    cluster.objects.put(
        "",
        "namespaces",
        json!({"metadata": {"name": "b"}, "status": {"phase": "Terminating"}}),
    );
    let reason = "configmaps \"x\" is forbidden: unable to create new content in namespace b because it is being terminated";
    cluster.refused("configmaps", config_map("b"), reason).await;
    cluster
        .write("configmaps", config_map("b"), Some(config_map("b")))
        .await
        .expect("updates go on");
}

#[tokio::test]
async fn priority_follows_the_class() {
    let cluster = Cluster::new();
    let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
    cluster.objects.put(
        "scheduling.k8s.io",
        "priorityclasses",
        class("high", 1000, false),
    );
    cluster.objects.put(
        "scheduling.k8s.io",
        "priorityclasses",
        class("usual", 5, true),
    );
    let (high, _) = cluster
        .write("pods", pod(json!({"priorityClassName": "high"})), None)
        .await
        .expect("admitted");
    assert_eq!(
        (&high["spec"]["priority"], &high["spec"]["preemptionPolicy"]),
        (&json!(1000), &json!("Never"))
    );
    let (usual, _) = cluster
        .write("pods", pod(json!({})), None)
        .await
        .expect("admitted");
    assert_eq!(
        (
            &usual["spec"]["priority"],
            &usual["spec"]["priorityClassName"]
        ),
        (&json!(5), &json!("usual"))
    );
    let missing = "pods \"p\" is forbidden: no PriorityClass with name none was found";
    cluster
        .refused("pods", pod(json!({"priorityClassName": "none"})), missing)
        .await;
    let second = "priorityclasses.scheduling.k8s.io \"new\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist";
    cluster
        .refused(
            "scheduling.k8s.io:priorityclasses",
            class("new", 1, true),
            second,
        )
        .await;
}

#[tokio::test]
async fn limits_are_set_and_kept() {
    let cluster = Cluster::new();
    let range = json!({
        "metadata": {"namespace": "a", "name": "r"},
        "spec": {"limits": [{
            "type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"},
        }]},
    });
    cluster.objects.put("", "limitranges", range);
    let (set, _) = cluster
        .write("pods", pod(json!({})), None)
        .await
        .expect("admitted");
    let container = &set["spec"]["containers"][0];
    assert_eq!(
        container["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}})
    );
    let note = "LimitRanger plugin set: cpu request for container c; cpu limit for container c";
    assert_eq!(
        set["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        note
    );
    let greedy = json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "3"}}}]});
    let reason = "pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 3";
    cluster.refused("pods", pod(greedy), reason).await;
}

fn quota(hard: Value, used: Value) -> Value {
    json!({
        "metadata": {"namespace": "a", "name": "q"},
        "spec": {"hard": hard},
        "status": {"hard": hard, "used": used},
    })
}

#[tokio::test]
async fn quotas_are_counted() {
    let mut cluster = Cluster::new();
    let hard = json!({"pods": "1", "requests.cpu": "1"});
    cluster
        .objects
        .put("", "resourcequotas", quota(hard.clone(), json!({})));
    cluster
        .refused(
            "pods",
            pod(json!({})),
            "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c",
        )
        .await;
    let plain = pod(json!({}));
    cluster
        .write("pods", plain.clone(), Some(plain))
        .await
        .expect("an update counts nothing");
    let asking =
        |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
    cluster
        .write("pods", pod(asking("500m")), None)
        .await
        .expect("fits");
    assert_eq!(cluster.calls.take(), [], "a dry run counts nothing");
    cluster.dry_run = false;
    cluster
        .write("pods", pod(asking("500m")), None)
        .await
        .expect("fits");
    let written = cluster.calls.take();
    assert_eq!(written[0].0, "/api/v1/namespaces/a/resourcequotas/q/status");
    assert_eq!(
        written[0].1["status"],
        json!({"hard": hard, "used": {"pods": "1", "requests.cpu": "500m"}})
    );
    let reason = "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=1500m, used: requests.cpu=0, limited: requests.cpu=1";
    cluster.refused("pods", pod(asking("1500m")), reason).await;
    let mut running = pod(asking("500m"));
    running["metadata"]["name"] = "other".into();
    cluster.objects.put("", "pods", running);
    cluster.objects.put(
        "",
        "resourcequotas",
        quota(hard.clone(), json!({"pods": "1", "requests.cpu": "500m"})),
    );
    let reason = "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    cluster.refused("pods", pod(asking("100m")), reason).await;
    cluster.objects.remove("", "pods", "a", "other");
    cluster
        .write("pods", pod(asking("100m")), None)
        .await
        .expect("counted anew");
    cluster.objects.put(
        "",
        "resourcequotas",
        quota(json!({"count/deployments.apps": "0"}), json!({})),
    );
    let reason = "deployments.apps \"d\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: count/deployments.apps=0";
    cluster
        .refused(
            "apps:deployments",
            json!({"metadata": {"namespace": "a", "name": "d"}}),
            reason,
        )
        .await;
}

#[tokio::test]
async fn pod_security_refuses_and_warns() {
    let cluster = Cluster::new();
    let label = |mode: &str, level: &str| {
        let labels = json!({format!("pod-security.kubernetes.io/{mode}"): level});
        cluster.objects.put(
            "",
            "namespaces",
            json!({"metadata": {"name": "a", "labels": labels}}),
        );
    };
    label("enforce", "baseline");
    cluster
        .write("pods", pod(json!({})), None)
        .await
        .expect("baseline allows it");
    let reason = "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true), hostPath volumes (volume \"v\")";
    let bad = json!({"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
    cluster.refused("pods", pod(bad), reason).await;
    label("enforce", "restricted");
    let reason = concat!(
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": ",
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), ",
        "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), ",
        "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), ",
        "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    cluster.refused("pods", pod(json!({})), reason).await;
    label("warn", "baseline");
    let deployment = json!({
        "metadata": {"namespace": "a", "name": "d"},
        "spec": {"template": {"spec": {"hostPID": true}}},
    });
    let (_, warnings) = cluster
        .write("apps:deployments", deployment, None)
        .await
        .expect("only warned");
    assert_eq!(
        warnings,
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]
    );
}

#[tokio::test]
async fn pod_security_labels_must_be_right() {
    let cluster = Cluster::new();
    let namespace = |level: &str| json!({"metadata": {"name": "a", "labels": {"pod-security.kubernetes.io/enforce": level}}});
    let reason = "Namespace \"a\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted";
    cluster
        .refused("namespaces", namespace("strict"), reason)
        .await;
    for name in ["p", "q"] {
        let mut pod = pod(json!({"hostPID": true}));
        pod["metadata"]["name"] = name.into();
        cluster.objects.put("", "pods", pod);
    }
    let (_, warnings) = cluster
        .write(
            "namespaces",
            namespace("baseline"),
            Some(namespace("privileged")),
        )
        .await
        .expect("admitted");
    assert_eq!(
        warnings,
        [
            "existing pods in namespace \"a\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "p (and 1 other pod): host namespaces",
        ]
    );
}

#[tokio::test]
async fn a_bound_pod_knows_its_zone() {
    let cluster = Cluster::new();
    let labels = json!({"topology.kubernetes.io/zone": "z", "other": "x"});
    cluster.objects.put(
        "",
        "nodes",
        json!({"metadata": {"name": "n", "labels": labels}}),
    );
    let (bound, _) = cluster
        .write(
            "pods/binding",
            pod(json!({"nodeName": "n"})),
            Some(pod(json!({}))),
        )
        .await
        .expect("admitted");
    assert_eq!(
        bound["metadata"]["labels"],
        json!({"topology.kubernetes.io/zone": "z"})
    );
}

#[tokio::test]
async fn a_node_changes_only_itself() {
    let mut cluster = Cluster::new();
    cluster.user = UserInfo {
        name: "system:node:n".into(),
        groups: vec!["system:nodes".into()],
        ..UserInfo::default()
    };
    let node = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    let own =
        json!({"kubernetes.io/hostname": "n", "example.org/any": "x", "node.kubernetes.io/x": "y"});
    let (made, _) = cluster
        .write("nodes", node("n", own.clone()), None)
        .await
        .expect("admitted");
    assert_eq!(
        made["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
    let check = async |object: Value, expect: &str| cluster.refused("nodes", object, expect).await;
    check(
        node("m", own),
        "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"",
    )
    .await;
    check(
        node("n", json!({"node-restriction.kubernetes.io/x": "y"})),
        "nodes \"n\" is forbidden: node \"n\" is not allowed to set the following labels: node-restriction.kubernetes.io/x",
    )
    .await;
    let mut tainted = made.clone();
    tainted["spec"]["taints"] = json!([]);
    let refused = cluster
        .write("nodes", tainted, Some(made))
        .await
        .expect_err("refused");
    assert_eq!(
        refused,
        "nodes \"n\" is forbidden: node \"n\" is not allowed to modify taints"
    );
    let plain = "pods \"p\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods";
    cluster.refused("pods", pod(json!({})), plain).await;
    let status = |phase: &str, node: &str| {
        let mut pod = pod(json!({"nodeName": node}));
        pod["status"]["phase"] = phase.into();
        pod
    };
    cluster
        .write("pods/status", status("Running", "n"), Some(status("", "n")))
        .await
        .expect("its own pod");
    let refused = cluster
        .write("pods/status", status("Running", "m"), Some(status("", "m")))
        .await;
    assert!(refused.is_err_and(|e| {
        e.contains("can only update pod status for pods with spec.nodeName set to itself")
    }));
}

#[tokio::test]
async fn storage_and_certificates() {
    let mut cluster = Cluster::new();
    let class = |name: &str, created: i64| {
        json!({"metadata": {
            "name": name,
            "creationTimestamp": Timestamp::from_second(created).expect("time").to_string(),
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        }})
    };
    cluster
        .objects
        .put("storage.k8s.io", "storageclasses", class("old", 1_000));
    cluster
        .objects
        .put("storage.k8s.io", "storageclasses", class("new", 2_000));
    let claim = json!({"metadata": {"namespace": "a", "name": "c"}, "spec": {}});
    let (claim, _) = cluster
        .write("persistentvolumeclaims", claim, None)
        .await
        .expect("admitted");
    assert_eq!(claim["spec"]["storageClassName"], "new");
    assert_eq!(
        claim["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    let mut grown = claim.clone();
    grown["spec"]["resources"]["requests"]["storage"] = "2Gi".into();
    let refused = cluster
        .write("persistentvolumeclaims", grown, Some(claim))
        .await
        .expect_err("refused");
    assert_eq!(
        refused,
        "persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded"
    );

    let signer = "kubernetes.io/kube-apiserver-client";
    let request = json!({"metadata": {"name": "r"}, "spec": {"signerName": signer, "username": "root", "request": ""}});
    let resource = "certificates.k8s.io:certificatesigningrequests";
    let refused = cluster
        .write(resource, request.clone(), None)
        .await
        .expect_err("refused");
    assert!(refused.contains("failed to parse CSR"), "{refused}");
    let mut request = request;
    request["spec"]["signerName"] = "example.org/x".into();
    let (noted, _) = cluster
        .write(resource, request, None)
        .await
        .expect("admitted");
    assert_eq!(
        noted["spec"]["username"], "jane",
        "who asked is what the server knows"
    );
    let approval = format!("{resource}/approval");
    let reason = "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with signerName \"example.org/x\"";
    assert_eq!(
        cluster
            .write(&approval, noted.clone(), Some(noted.clone()))
            .await
            .expect_err("refused"),
        reason
    );
    cluster.user.groups.push("system:masters".into());
    cluster
        .write(&approval, noted.clone(), Some(noted))
        .await
        .expect("a superuser may");
}

#[tokio::test]
async fn rights_that_are_not_held_cannot_be_granted() {
    let cluster = Cluster::new();
    let resource = "rbac.authorization.k8s.io:roles";
    let role = json!({
        "metadata": {"namespace": "a", "name": "r"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}],
    });
    let reason = concat!(
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[]) is attempting to grant RBAC ",
        "permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}",
    );
    cluster.refused(resource, role.clone(), reason).await;
    let group = "rbac.authorization.k8s.io";
    cluster.objects.put(group, "roles", role.clone());
    let binding = |name: &str, user: &str| {
        json!({
            "metadata": {"namespace": "a", "name": name},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
        })
    };
    let refused = cluster
        .write(
            "rbac.authorization.k8s.io:rolebindings",
            binding("b", "joe"),
            None,
        )
        .await;
    assert!(
        refused.is_err_and(
            |e| e.contains("is attempting to grant RBAC permissions not currently held")
        )
    );
    cluster
        .objects
        .put(group, "rolebindings", binding("b", "jane"));
    cluster
        .write(resource, role, None)
        .await
        .expect("now it is held");
}
