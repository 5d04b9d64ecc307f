//! Pods, and the templates that stand alone.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt, Quantity};
use serde_json::{Map, Value, json};

use super::checks::{Errors, immutable};
use super::{Rules, container_checks, pod_checks, pod_defaults};

pub(super) struct Pod;

impl Rules for Pod {
    fn default(&self, pod: &mut Value) {
        if let Some(spec) = pod.get_mut("spec") {
            pod_defaults::pod_spec(spec);
        }
        pod_defaults::pod(pod);
    }

    fn prepare_create(&self, pod: &mut Value) {
        if let Some(spec) = pod.get_mut("spec") {
            // Admission chose the account after the defaults were set.
            pod_defaults::mirror_service_account(spec);
        }
        let class = qos_class(pod);
        pod.set(&["status"], json!({"phase": "Pending", "qosClass": class}));
    }

    fn prepare_status_update(&self, pod: &mut Value, old: &Value) {
        addresses(pod);
        // Agents may leave these out; they do not lose them by it.
        for field in ["qosClass", "observedGeneration"] {
            if let Some(value) = old.field(&["status", field]) {
                pod.set_default(&["status", field], value.clone());
            }
        }
    }

    fn validate_create(&self, pod: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = pod.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        pod_checks::pod_spec(spec, &path, errors);
        for list in ["containers", "initContainers"] {
            let list_path = path.child(list);
            for (i, container) in spec.list(&[list]).iter().enumerate() {
                container_checks::image_text(container, &list_path.index(i), errors);
            }
        }
        if !spec.list(&["ephemeralContainers"]).is_empty() {
            let detail = "cannot be set on create";
            errors.push(FieldError::forbidden(
                &path.child("ephemeralContainers"),
                detail,
            ));
        }
        if !spec.list(&["schedulingGates"]).is_empty() && !spec.text(&["nodeName"]).is_empty() {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
        }
    }

    fn validate_update(&self, pod: &Value, old: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = pod.field(&["spec"]).unwrap_or(&empty);
        let old_spec = old.field(&["spec"]).unwrap_or(&empty);
        pod_checks::pod_spec(spec, &FieldPath::root("spec"), errors);
        if spec != old_spec && same_containers(spec, old_spec, errors) {
            changes(spec, old_spec, errors);
        }
    }

    fn validate_status_update(&self, pod: &Value, old: &Value, errors: &mut Errors) {
        immutable(pod, old, &["status", "qosClass"], errors);
        for (list, containers) in [
            ("containerStatuses", "containers"),
            ("initContainerStatuses", "initContainers"),
        ] {
            transitions(pod, old, list, containers, errors);
        }
    }
}

/// `podIP` is the first of `podIPs`. Where they differ, it is from an agent that knows no others.
fn addresses(pod: &mut Value) {
    let alone = pod.text(&["status", "podIP"]).to_owned();
    let first = pod
        .list(&["status", "podIPs"])
        .first()
        .map(|ip| ip.text(&["ip"]).to_owned());
    match first {
        Some(first) if alone.is_empty() => pod.set(&["status", "podIP"], first),
        Some(first) if alone == first => {}
        None if alone.is_empty() => {}
        _ => pod.set(&["status", "podIPs"], json!([{"ip": alone}])),
    }
}

/// A container that has ended for good does not run again.
fn transitions(pod: &Value, old: &Value, list: &str, containers: &str, errors: &mut Errors) {
    let pod_policy = old.text(&["spec", "restartPolicy"]);
    let status_path = FieldPath::root("status");
    let path = status_path.child(list);
    for (i, before) in old.list(&["status", list]).iter().enumerate() {
        let Some(ended) = before.field(&["state", "terminated"]) else {
            continue;
        };
        let name = before.text(&["name"]);
        let by_name = |c: &&Value| c.text(&["name"]) == name;
        let spec = old.list(&["spec", containers]).iter().find(by_name);
        // Rules about exit codes are the agent's to follow.
        if spec.is_some_and(|spec| !spec.list(&["restartPolicyRules"]).is_empty()) {
            continue;
        }
        let own_policy = spec.map_or("", |spec| spec.text(&["restartPolicy"]));
        let policy = if own_policy.is_empty() {
            pod_policy
        } else {
            own_policy
        };
        let failed = ended.number(&["exitCode"]).unwrap_or_default() != 0;
        let may_restart = match policy {
            "Never" => false,
            "OnFailure" => failed,
            _ => true,
        };
        let now = pod.list(&["status", list]).iter().find(by_name);
        if !may_restart && now.is_some_and(|now| now.field(&["state", "terminated"]).is_none()) {
            let element = path.index(i);
            let detail = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&element.child("state"), detail));
        }
    }
}

fn same_containers(spec: &Value, old: &Value, errors: &mut Errors) -> bool {
    let path = FieldPath::root("spec");
    for list in ["containers", "initContainers"] {
        let list_path = path.child(list);
        if spec.list(&[list]).len() != old.list(&[list]).len() {
            errors.push(FieldError::forbidden(
                &list_path,
                "pod updates may not add or remove containers",
            ));
            return false;
        }
        for (i, container) in spec.list(&[list]).iter().enumerate() {
            container_checks::image_text(container, &list_path.index(i), errors);
        }
    }
    true
}

/// What may change in a pod's spec, and how; everything else may not.
fn changes(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = FieldPath::root("spec");
    deadline(spec, old, &path, errors);
    let kept = |toleration: &Value| {
        let without_seconds = |toleration: &Value| {
            let mut toleration = toleration.clone();
            toleration.remove_field(&["tolerationSeconds"]);
            toleration
        };
        spec.list(&["tolerations"])
            .iter()
            .any(|t| without_seconds(t) == without_seconds(toleration))
    };
    if !old.list(&["tolerations"]).iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path.child("tolerations"), detail));
    }
    let gates = old.list(&["schedulingGates"]);
    if !spec
        .list(&["schedulingGates"])
        .iter()
        .all(|gate| gates.contains(gate))
    {
        let detail = "only deletion is allowed, but found new scheduling gate";
        errors.push(FieldError::forbidden(
            &path.child("schedulingGates"),
            detail,
        ));
    }
    let mut allowed = spec.clone();
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        copy(&mut allowed, old, field);
    }
    for list in ["containers", "initContainers"] {
        let elements = allowed
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for (container, old) in elements.zip(old.list(&[list])) {
            copy(container, old, "image");
        }
    }
    let grace = |spec: &Value| spec.number(&["terminationGracePeriodSeconds"]);
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(spec) == Some(1) {
        copy(&mut allowed, old, "terminationGracePeriodSeconds");
    }
    if !gates.is_empty() {
        // A pod that is not scheduled yet may still be narrowed down.
        copy(&mut allowed, old, "nodeSelector");
        copy(&mut allowed, old, "affinity");
    }
    if allowed != *old {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,\
                      `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions \
                      to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it \
                      was previously negative)\n";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn deadline(spec: &Value, old: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let seconds = |spec: &Value| spec.number(&["activeDeadlineSeconds"]);
    let path = path.child("activeDeadlineSeconds");
    match (seconds(spec), seconds(old)) {
        (Some(new), Some(old)) if new > old => {
            errors.push(FieldError::invalid(
                &path,
                new,
                "must be less than or equal to previous value",
            ));
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, Value::Null, detail));
        }
        _ => {}
    }
}

fn copy(object: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => object.set(&[field], value.clone()),
        None => drop(object.remove_field(&[field])),
    }
}

/// The class by which a node decides whom to take memory from first.
fn qos_class(pod: &Value) -> &'static str {
    let containers = pod
        .list(&["spec", "containers"])
        .iter()
        .chain(pod.list(&["spec", "initContainers"]));
    let (mut any, mut all) = (false, true);
    for container in containers {
        let amounts = |field: &str| container.map(&["resources", field]);
        let amount = |map: Option<&Map<String, Value>>, name: &str| {
            let text = map?.get(name)?.as_str()?;
            Quantity::parse(text)
                .ok()
                .filter(|amount| amount.sign() > 0)
        };
        for name in ["cpu", "memory"] {
            let (request, limit) = (
                amount(amounts("requests"), name),
                amount(amounts("limits"), name),
            );
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

pub(super) struct PodTemplate;

impl Rules for PodTemplate {
    fn default(&self, object: &mut Value) {
        pod_defaults::template(object, &["template"]);
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        if let Some(template) = object.field(&["template"]) {
            pod_checks::template(template, &FieldPath::root("template"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::{created, updated};

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "web"}, "spec": spec})
    }

    #[test]
    fn good_pods_pass() {
        let spec = json!({"containers": [{"name": "a", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "resources": {"limits": {"cpu": "1"}}, "readinessProbe": {"tcpSocket": {"port": "http"}},
            "ports": [{"name": "http", "containerPort": 80}],
            "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}],
            "volumes": [{"name": "v", "configMap": {"name": "c"}}]});
        assert_eq!(created(&Pod, pod(spec)), [""; 0]);
    }

    #[test]
    fn errors_are_upstreams() {
        for (spec, expected) in [
            (json!({}), vec!["spec.containers: Required value"]),
            (
                json!({"containers": [{"name": "A_b", "image": ""}]}),
                vec![
                    "spec.containers[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of lower \
                     case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. \
                     'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                    "spec.containers[0].image: Required value",
                ],
            ),
            (
                json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}),
                vec!["spec.containers[1].name: Duplicate value: \"a\""],
            ),
            (
                json!({"containers": [{"name": "a", "image": "i"}], "restartPolicy": "Sometimes"}),
                vec![
                    "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \
                     \"Never\"",
                ],
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
                vec!["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
            ),
            (
                json!({"containers": [{"name": "a", "image": "i",
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}]}),
                vec![
                    "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit \
                     of 1",
                ],
            ),
            (
                json!({"containers": [{"name": "a", "image": "i", "livenessProbe": {}}]}),
                vec![
                    "spec.containers[0].livenessProbe: Required value: must specify a handler type",
                ],
            ),
        ] {
            assert_eq!(created(&Pod, pod(spec)), expected);
        }
    }

    #[test]
    fn only_images_and_few_others_change() {
        let old = pod(json!({"containers": [{"name": "a", "image": "i:1"}]}));
        let image = pod(json!({"containers": [{"name": "a", "image": "i:2"}]}));
        assert_eq!(updated(&Pod, image, &old), [""; 0]);
        let command = pod(json!({"containers": [{"name": "a", "image": "i:1", "command": ["x"]}]}));
        let errors = updated(&Pod, command, &old);
        assert!(
            errors[0].starts_with("spec: Forbidden: pod updates may not change fields other than"),
            "{errors:?}"
        );
        let more = pod(
            json!({"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i"}]}),
        );
        assert_eq!(
            updated(&Pod, more, &old),
            ["spec.containers: Forbidden: pod updates may not add or remove containers"]
        );
    }

    #[test]
    fn ended_containers_stay_ended() {
        let status = |state: Value| {
            json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a"}]},
                "status": {"qosClass": "BestEffort", "containerStatuses": [{"name": "a", "state": state}]}})
        };
        let old = status(json!({"terminated": {"exitCode": 0}}));
        let mut new = status(json!({"running": {}}));
        new["status"]["podIP"] = "10.0.0.1".into();
        new.remove_field(&["status", "qosClass"]);
        Pod.prepare_status_update(&mut new, &old);
        assert_eq!(new["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
        let mut errors = Vec::new();
        Pod.validate_status_update(&new, &old, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
            ]
        );
    }

    #[test]
    fn quality_of_service() {
        let of =
            |resources: Value| qos_class(&pod(json!({"containers": [{"resources": resources}]})));
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
        assert_eq!(of(json!({"requests": both, "limits": both})), "Guaranteed");
    }
}
