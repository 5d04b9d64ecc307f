//! What a service gets that its client left out, at creation and when its type changes.

use std::collections::HashSet;

use api_machinery::{ObjectExt, ObjectMutExt};
use serde_json::{Value, json};

use super::service::{is_external, is_headless, needs_health_check, service_type};
use super::values::{each, fill, fill_text, get_mut, set};

/// Seconds for which a client stays with its endpoint.
const AFFINITY_SECONDS: i64 = 10_800;

/// Defaults of a service's spec.
pub(super) fn spec_defaults(spec: &mut Value) {
    fill_text(spec, "sessionAffinity", "None");
    if spec.text(&["sessionAffinity"]) == "None" {
        spec.remove_field(&["sessionAffinityConfig"]);
    } else if spec
        .number(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"])
        .is_none()
    {
        set(
            spec,
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}),
        );
    }
    fill_text(spec, "type", "ClusterIP");
    for port in each(spec, "ports") {
        fill_text(port, "protocol", "TCP");
        let unset = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(target) => target == 0 || target == "",
        };
        if unset {
            let number = port.number(&["port"]).unwrap_or_default();
            set(port, "targetPort", number);
        }
    }
    if is_external(spec) {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if spec.text(&["type"]) != "ExternalName" {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if spec.text(&["type"]) == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// `clusterIP` is the first of `clusterIPs`; clients set either. A change of the one alone is meant for both.
pub(super) fn mirror_cluster_ip(service: &mut Value, old: Option<&Value>) {
    if service_type(service) == "ExternalName" {
        return;
    }
    let first = |service: &Value| {
        service
            .list(&["spec", "clusterIPs"])
            .first()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let single = service.text(&["spec", "clusterIP"]).to_owned();
    let many = service.list(&["spec", "clusterIPs"]).len();
    if single.is_empty() && many > 0 {
        match old {
            // The address was taken back, by a client that does not know of the list.
            Some(old) if first(service) == first(old) => {
                drop(service.remove_field(&["spec", "clusterIPs"]))
            }
            Some(_) => {}
            None => service.set(&["spec", "clusterIP"], first(service)),
        }
    } else if !single.is_empty() && many == 0 {
        service.set(&["spec", "clusterIPs"], json!([single]));
    } else if let Some(old) =
        old.filter(|old| single != old.text(&["spec", "clusterIP"]) && first(service) == first(old))
    {
        let rest = service
            .list(&["spec", "clusterIPs"])
            .get(1..)
            .unwrap_or_default()
            .to_vec();
        let kept = if old.text(&["spec", "clusterIP"]).is_empty() {
            Vec::new()
        } else {
            rest
        };
        let all: Vec<Value> = std::iter::once(Value::from(single)).chain(kept).collect();
        service.set(&["spec", "clusterIPs"], all);
    }
}

/// The IP families of a cluster with IPv4 alone.
pub(super) fn families(service: &mut Value) {
    if service_type(service) == "ExternalName" {
        return;
    }
    let selectorless = service
        .map(&["spec", "selector"])
        .is_none_or(|selector| selector.is_empty());
    let both = is_headless(service) && selectorless;
    let policy = if both {
        "RequireDualStack"
    } else {
        "SingleStack"
    };
    service.set_default(&["spec", "ipFamilyPolicy"], policy);
    if service.list(&["spec", "ipFamilies"]).is_empty() {
        let dual = both && service.text(&["spec", "ipFamilyPolicy"]) != "SingleStack";
        let families = if dual {
            json!(["IPv4", "IPv6"])
        } else {
            json!(["IPv4"])
        };
        service.set(&["spec", "ipFamilies"], families);
    }
}

/// What was allocated and is left out by the client stays, while the type still needs it.
pub(super) fn keep_allocated(service: &mut Value, old: &Value) {
    let (new_type, old_type) = (service_type(service).to_owned(), service_type(old));
    if new_type == "ExternalName" || old_type == "ExternalName" {
        return;
    }
    if service.text(&["spec", "clusterIP"]).is_empty()
        && service.list(&["spec", "clusterIPs"]).is_empty()
    {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = old.field(&["spec", field]) {
                service.set(&["spec", field], value.clone());
            }
        }
    }
    let uses_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if uses_node_ports(&new_type) && uses_node_ports(old_type) {
        let old_ports = old.list(&["spec", "ports"]);
        let Some(spec) = get_mut(service, &["spec"]) else {
            return;
        };
        // Ports are the same where protocol and number are; a single one also keeps its place.
        let used: HashSet<i64> = spec
            .list(&["ports"])
            .iter()
            .filter_map(|port| port.number(&["nodePort"]))
            .collect();
        for port in each(spec, "ports") {
            if port.number(&["nodePort"]).unwrap_or_default() != 0 {
                continue;
            }
            let same = |old: &&Value| {
                old.number(&["port"]) == port.number(&["port"])
                    && old.text(&["protocol"]) == port.text(&["protocol"])
            };
            let node_port = old_ports
                .iter()
                .find(same)
                .and_then(|old| old.number(&["nodePort"]));
            if let Some(node_port) =
                node_port.filter(|number| *number != 0 && !used.contains(number))
            {
                set(port, "nodePort", node_port);
            }
        }
    }
    if needs_health_check(service) && needs_health_check(old) {
        let port = old
            .number(&["spec", "healthCheckNodePort"])
            .unwrap_or_default();
        if service
            .number(&["spec", "healthCheckNodePort"])
            .unwrap_or_default()
            == 0
            && port != 0
        {
            service.set(&["spec", "healthCheckNodePort"], port);
        }
    }
}

/// When the type changes, what only the old type had goes, unless the client set it anew.
pub(super) fn drop_unused(service: &mut Value, old: &Value) {
    let (new_type, old_type) = (
        service_type(service).to_owned(),
        service_type(old).to_owned(),
    );
    if new_type == old_type {
        return;
    }
    let unchanged = |service: &Value, field: &str| {
        service.field(&["spec", field]) == old.field(&["spec", field])
    };
    let mut dropped: Vec<&str> = Vec::new();
    if new_type == "ExternalName" {
        dropped.extend([
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ]);
    }
    if old_type == "ExternalName" {
        dropped.push("externalName");
    }
    if !matches!(new_type.as_str(), "NodePort" | "LoadBalancer") {
        dropped.push("externalTrafficPolicy");
        let Some(spec) = get_mut(service, &["spec"]) else {
            return;
        };
        let external = is_external(spec);
        let old_ports = old.list(&["spec", "ports"]);
        for (port, old) in each(spec, "ports").zip(old_ports) {
            if port.number(&["nodePort"]) == old.number(&["nodePort"]) {
                port.remove_field(&["nodePort"]);
            }
        }
        if external {
            dropped.pop();
        }
    }
    if new_type != "LoadBalancer" {
        dropped.extend([
            "allocateLoadBalancerNodePorts",
            "loadBalancerClass",
            "healthCheckNodePort",
        ]);
    }
    for field in dropped {
        if unchanged(service, field) {
            service.remove_field(&["spec", field]);
        }
    }
}
