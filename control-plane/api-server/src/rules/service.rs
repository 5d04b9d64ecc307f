//! Services. Addresses and ports are allocated elsewhere, after these rules.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt};
use serde_json::{Value, json};

use super::Rules;
use super::checks::Errors;
use super::service_checks::{cluster_ip_update, validate};
use super::service_defaults::{
    drop_unused, families, keep_allocated, mirror_cluster_ip, spec_defaults,
};
use super::values::get_mut;

pub(super) struct Service;

impl Rules for Service {
    fn default(&self, service: &mut Value) {
        if let Some(spec) = get_mut(service, &["spec"]) {
            spec_defaults(spec);
        }
    }

    fn prepare_create(&self, service: &mut Value) {
        service.set(&["status"], json!({"loadBalancer": {}}));
        mirror_cluster_ip(service, None);
        families(service);
    }

    fn prepare_update(&self, service: &mut Value, old: &Value) {
        keep_allocated(service, old);
        mirror_cluster_ip(service, Some(old));
        drop_unused(service, old);
        families(service);
    }

    fn validate_create(&self, service: &Value, errors: &mut Errors) {
        validate(service, errors);
    }

    fn validate_update(&self, service: &Value, old: &Value, errors: &mut Errors) {
        cluster_ip_update(service, old, errors);
        if needs_health_check(service) && needs_health_check(old) {
            let port = |service: &Value| service.number(&["spec", "healthCheckNodePort"]);
            if port(service) != port(old) {
                let path = FieldPath::root("spec.healthCheckNodePort");
                errors.push(FieldError::forbidden(&path, "field is immutable"));
            }
        }
        validate(service, errors);
    }
}

pub(super) fn service_type(service: &Value) -> &str {
    service.text(&["spec", "type"])
}

pub(super) fn is_headless(service: &Value) -> bool {
    service
        .list(&["spec", "clusterIPs"])
        .first()
        .is_some_and(|ip| ip == "None")
}

pub(super) fn is_external(spec: &Value) -> bool {
    let kind = spec.text(&["type"]);
    let addresses = !spec.list(&["externalIPs"]).is_empty();
    matches!(kind, "LoadBalancer" | "NodePort") || (kind == "ClusterIP" && addresses)
}

pub(super) fn needs_health_check(service: &Value) -> bool {
    service_type(service) == "LoadBalancer"
        && service.text(&["spec", "externalTrafficPolicy"]) == "Local"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::{created, stored, updated};

    fn service(spec: Value) -> Value {
        json!({"metadata": {"name": "web"}, "spec": spec})
    }

    #[test]
    fn defaults_are_upstreams() {
        let object = stored(
            &Service,
            service(json!({"selector": {"a": "b"}, "ports": [{"port": 80}]})),
        );
        assert_eq!(
            object["spec"],
            json!({"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
                "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]})
        );
        let node = stored(
            &Service,
            service(json!({"type": "NodePort", "ports": [{"port": 80, "targetPort": "http"}]})),
        );
        assert_eq!(node["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(node["spec"]["ports"][0]["targetPort"], "http");
        let headless = stored(
            &Service,
            service(json!({"clusterIP": "None", "selector": {"a": "b"}})),
        );
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    }

    #[test]
    fn errors_are_upstreams() {
        for (spec, expected) in [
            (json!({}), vec!["spec.ports: Required value"]),
            (
                json!({"ports": [{"port": 0}]}),
                vec![
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                json!({"ports": [{"port": 1}, {"port": 2}]}),
                vec![
                    "spec.ports[0].name: Required value",
                    "spec.ports[1].name: Required value",
                ],
            ),
            (
                json!({"type": "Other", "ports": [{"port": 1}]}),
                vec![
                    "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \
                     \"LoadBalancer\", \"NodePort\"",
                ],
            ),
            (
                json!({"ports": [{"port": 1, "nodePort": 30000}]}),
                vec![
                    "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                ],
            ),
            (
                json!({"type": "ExternalName"}),
                vec!["spec.externalName: Required value"],
            ),
        ] {
            assert_eq!(created(&Service, service(spec)), expected);
        }
    }

    #[test]
    fn updates_keep_what_was_allocated() {
        let allocated = json!({"type": "NodePort", "clusterIP": "10.43.0.9", "ports": [{"port": 80, "nodePort": 30080}]});
        let old = stored(&Service, service(allocated));
        let mut new = service(
            json!({"type": "NodePort", "ports": [{"port": 80}, {"name": "b", "port": 81}]}),
        );
        Service.default(&mut new);
        Service.prepare_update(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.43.0.9"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
        assert!(new["spec"]["ports"][1].get("nodePort").is_none());

        let mut cluster = old.clone();
        cluster["spec"]["type"] = "ClusterIP".into();
        assert_eq!(updated(&Service, cluster, &old), [""; 0]);

        let mut moved = old.clone();
        moved["spec"]["clusterIP"] = "10.43.0.10".into();
        assert_eq!(
            updated(&Service, moved, &old),
            ["spec.clusterIPs[0]: Invalid value: [\"10.43.0.10\"]: may not change once set"]
        );
    }
}
