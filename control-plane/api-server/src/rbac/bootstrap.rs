//! The roles and bindings that every cluster starts with, read from `bootstrap_policy.txt`.

use serde_json::{Map, Value, json};

use super::policy::GROUP;

const POLICY: &str = include_str!("bootstrap_policy.txt");
/// Of the objects that Kubernetes itself brings.
const BOOTSTRAPPING_LABEL: &str = "kubernetes.io/bootstrapping";
/// While it is `true` the object is brought back to what it should be at every start.
pub(super) const AUTOUPDATE_ANNOTATION: &str = "rbac.authorization.kubernetes.io/autoupdate";
const CONTROLLER_ROLES: &str = "system:controller:";

/// One object to be there at every start.
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapObject {
    /// Plural.
    pub resource: &'static str,
    /// Empty for cluster-scoped ones.
    pub namespace: String,
    pub name: String,
    pub object: Value,
}

/// All of them; roles before the bindings that name them.
pub fn bootstrap_objects() -> Vec<BootstrapObject> {
    let mut objects: Vec<BootstrapObject> = Vec::new();
    for line in POLICY.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            let last = objects
                .last_mut()
                .expect("the policy begins with an object");
            add_line(&mut last.object, &words);
        } else {
            objects.push(start(&words));
        }
    }
    let controllers: Vec<_> = objects
        .iter()
        .filter(|o| o.resource == "clusterroles")
        .filter_map(|o| o.name.strip_prefix(CONTROLLER_ROLES))
        .map(String::from)
        .collect();
    for controller in controllers {
        let role = format!("{CONTROLLER_ROLES}{controller}");
        let mut binding = start(&["clusterrolebinding", &role, &role]);
        add_line(
            &mut binding.object,
            &["sa", &format!("kube-system/{controller}")],
        );
        objects.push(binding);
    }
    objects.sort_by_key(|o| o.resource.ends_with("bindings"));
    objects
}

fn start(words: &[&str]) -> BootstrapObject {
    let (resource, kind) = match words[0] {
        "clusterrole" => ("clusterroles", "ClusterRole"),
        "role" => ("roles", "Role"),
        "clusterrolebinding" => ("clusterrolebindings", "ClusterRoleBinding"),
        "rolebinding" => ("rolebindings", "RoleBinding"),
        other => panic!("the policy knows no {other}"),
    };
    let (namespace, name) = words[1].split_once('/').unwrap_or(("", words[1]));
    let mut metadata = Map::new();
    metadata.insert("name".into(), name.into());
    if !namespace.is_empty() {
        metadata.insert("namespace".into(), namespace.into());
    }
    let mut labels = Map::new();
    if !name.starts_with("kubeadm:") && !name.starts_with("xebec:") {
        labels.insert(BOOTSTRAPPING_LABEL.into(), "rbac-defaults".into());
        metadata.insert("annotations".into(), json!({AUTOUPDATE_ANNOTATION: "true"}));
    }
    let mut object = json!({"kind": kind, "apiVersion": format!("{GROUP}/v1")});
    match words[0] {
        "clusterrole" | "role" => {
            for (key, value) in words[2..].iter().filter_map(|label| label.split_once('=')) {
                labels.insert(key.into(), value.into());
            }
            object["rules"] = json!([]);
        }
        _ => {
            let (kind, role) = match words[2].split_once('/') {
                Some(("role", role)) => ("Role", role),
                Some((_, role)) => ("ClusterRole", role),
                None => ("ClusterRole", words[2]),
            };
            object["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": role});
        }
    }
    if !labels.is_empty() {
        metadata.insert("labels".into(), labels.into());
    }
    object["metadata"] = metadata.into();
    BootstrapObject {
        resource,
        namespace: namespace.into(),
        name: name.into(),
        object,
    }
}

fn list(text: &str) -> Vec<&str> {
    text.split(',')
        .map(|v| if v == "core" { "" } else { v })
        .collect()
}

fn add_line(object: &mut Value, words: &[&str]) {
    let push = |list: &mut Value, item: Value| match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    };
    match words {
        ["user", name] => push(
            &mut object["subjects"],
            json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        ),
        ["group", name] => push(
            &mut object["subjects"],
            json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        ),
        ["sa", path] => {
            let (namespace, name) = path.split_once('/').expect("NAMESPACE/NAME");
            push(
                &mut object["subjects"],
                json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}),
            );
        }
        ["aggregate", label] => {
            let (key, value) = label.split_once('=').expect("LABEL=VALUE");
            push(
                &mut object["aggregationRule"]["clusterRoleSelectors"],
                json!({"matchLabels": {key: value}}),
            );
            // Filled by aggregation.
            object["rules"] = Value::Null;
        }
        [verbs, "url", paths] => {
            push(
                &mut object["rules"],
                json!({"verbs": list(verbs), "nonResourceURLs": list(paths)}),
            );
        }
        [verbs, groups, resources] => push(
            &mut object["rules"],
            json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}),
        ),
        [verbs, groups, resources, names] => push(
            &mut object["rules"],
            json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources), "resourceNames": list(names)}),
        ),
        other => panic!("the policy has a line that is not understood: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(resource: &str, name: &str) -> Value {
        bootstrap_objects()
            .into_iter()
            .find(|o| o.resource == resource && o.name == name)
            .expect(name)
            .object
    }

    #[test]
    fn objects_have_kubernetes_shape() {
        assert_eq!(
            find("clusterroles", "cluster-admin"),
            json!({
                "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
                "rules": [
                    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
                    {"verbs": ["*"], "nonResourceURLs": ["*"]}
                ],
                "metadata": {
                    "name": "cluster-admin",
                    "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
                    "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}
                }
            })
        );
        let edit = find("clusterroles", "edit");
        assert_eq!(
            edit["aggregationRule"],
            json!({"clusterRoleSelectors": [{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}]})
        );
        assert_eq!(
            edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"],
            "true"
        );
        let binding = find("clusterrolebindings", "system:controller:job-controller");
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": "job-controller", "namespace": "kube-system"}])
        );
    }

    #[test]
    fn every_binding_names_a_role_that_is_there() {
        let objects = bootstrap_objects();
        for binding in objects.iter().filter(|o| o.resource.ends_with("bindings")) {
            let role = &binding.object["roleRef"];
            let (resource, namespace) = match role["kind"].as_str() {
                Some("Role") => ("roles", binding.namespace.as_str()),
                _ => ("clusterroles", ""),
            };
            let there = objects.iter().any(|o| {
                o.resource == resource
                    && o.namespace == namespace
                    && role["name"] == o.name.as_str()
            });
            assert!(there, "{}", binding.name);
        }
    }
}
