//! Defaults of pod specs and pod templates, as upstream sets them in `core/v1`.

use serde_json::{Map, Value, json};

use super::values::{each, fill, fill_entries, fill_number, fill_text, get_mut, map_in};
use super::volume_defaults;

const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Defaults of the template in `spec.template` and alike.
pub(super) fn template(object: &mut Value, path: &[&str]) {
    if let Some(spec) = get_mut(object, path).and_then(|template| map_in(template, "spec")) {
        pod_spec(spec);
    }
}

/// Defaults that pods and templates share.
pub(super) fn pod_spec(spec: &mut Value) {
    fill_text(spec, "restartPolicy", "Always");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    mirror_service_account(spec);
    fill(spec, "securityContext", Map::new());
    fill_text(spec, "schedulerName", "default-scheduler");
    for list in CONTAINER_LISTS {
        each(spec, list).for_each(container);
    }
    each(spec, "volumes").for_each(volume_defaults::volume);
}

/// Defaults that only pods have.
pub(super) fn pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            if let Some(resources) = container.get_mut("resources") {
                fill_entries(resources, "limits", "requests");
            }
            if host_network {
                host_ports(container);
            }
        }
    }
    fill(spec, "enableServiceLinks", true);
}

/// `serviceAccount` is the old name of `serviceAccountName`; clients read either.
pub(super) fn mirror_service_account(spec: &mut Value) {
    let name = |field: &str| {
        spec.get(field)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    };
    if let Some(account) = name("serviceAccountName")
        .or_else(|| name("serviceAccount"))
        .map(str::to_owned)
    {
        super::values::set(spec, "serviceAccountName", account.as_str());
        super::values::set(spec, "serviceAccount", account.as_str());
    }
}

fn host_ports(container: &mut Value) {
    for port in each(container, "ports") {
        if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            fill_number(port, "hostPort", number);
        }
    }
}

fn container(container: &mut Value) {
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let policy = pull_policy(image);
    fill_text(container, "imagePullPolicy", policy);
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    fill(container, "resources", Map::new());
    each(container, "ports").for_each(|port| fill_text(port, "protocol", "TCP"));
    for variable in each(container, "env") {
        if let Some(reference) = get_mut(variable, &["valueFrom", "fieldRef"]) {
            fill_text(reference, "apiVersion", "v1");
        }
        if let Some(reference) = get_mut(variable, &["valueFrom", "resourceFieldRef"]) {
            fill(reference, "divisor", "0");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = get_mut(container, &[name]) {
            fill_number(probe, "timeoutSeconds", 1);
            fill_number(probe, "periodSeconds", 10);
            fill_number(probe, "successThreshold", 1);
            fill_number(probe, "failureThreshold", 3);
            handler(probe);
        }
    }
    for name in ["postStart", "preStop"] {
        if let Some(hook) = get_mut(container, &["lifecycle", name]) {
            handler(hook);
        }
    }
}

fn handler(handler: &mut Value) {
    if let Some(get) = get_mut(handler, &["httpGet"]) {
        fill_text(get, "path", "/");
        fill_text(get, "scheme", "HTTP");
    }
    if let Some(grpc) = get_mut(handler, &["grpc"]) {
        fill(grpc, "service", json!(""));
    }
}

/// `latest`, spelled out or meant, is pulled always.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    match (last.split_once(':'), digest) {
        (Some((_, "latest")), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_decide_when_to_pull() {
        for (image, expected) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("localhost:5000/busybox", "Always"),
            ("localhost:5000/busybox:1", "IfNotPresent"),
            ("busybox@sha256:abc", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }

    #[test]
    fn pods_are_completed() {
        let mut object = json!({"spec": {"hostNetwork": true, "serviceAccountName": "a", "containers": [{
            "name": "c", "image": "i:1", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3}}]}});
        pod_spec(&mut object["spec"]);
        pod(&mut object);
        assert_eq!(
            object["spec"],
            json!({
                "hostNetwork": true, "serviceAccountName": "a", "serviceAccount": "a", "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "securityContext": {},
                "schedulerName": "default-scheduler", "enableServiceLinks": true,
                "containers": [{
                    "name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
                    "env": [{"name": "E", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                    "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 3,
                        "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}}]})
        );
    }
}
