//! Validation of services.

use std::collections::HashSet;
use std::net::IpAddr;

use api_machinery::{
    FieldError, FieldPath, ObjectExt, dns_label_errors, dns_subdomain_errors, port_number_errors,
    qualified_name_errors,
};
use serde_json::{Value, json};

use super::checks::{self, Errors, invalid_each, one_of, one_of_if_set};
use super::service::{is_external, is_headless, needs_health_check, service_type};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MAX_AFFINITY_SECONDS: i64 = 86_400;

/// Everything but what an update may not change.
pub(super) fn validate(service: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = service.field(&["spec"]).unwrap_or(&empty);
    let path = FieldPath::root("spec");
    let kind = spec.text(&["type"]);
    let ports = spec.list(&["ports"]);
    if ports.is_empty() && !is_headless(service) && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    by_type(service, spec, &path, errors);
    let list = path.child("ports");
    let mut names = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        check_port(port, ports.len() > 1, &mut names, &list.index(i), errors);
    }
    checks::labels(spec.map(&["selector"]), &path.child("selector"), errors);
    one_of(
        spec,
        "sessionAffinity",
        &["ClientIP", "None"],
        &path,
        errors,
    );
    affinity(spec, &path, errors);
    cluster_ips(service, &path, errors);
    let list = path.child("externalIPs");
    for (i, ip) in spec.list(&["externalIPs"]).iter().enumerate() {
        let text = ip.as_str().unwrap_or_default();
        if text.parse::<IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&list.index(i), text, detail));
        }
    }
    one_of(spec, "type", &TYPES, &path, errors);
    unique_ports(spec, kind, &path.child("ports"), errors);
    if spec.field(&["allocateLoadBalancerNodePorts"]).is_some() && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(
            &path.child("allocateLoadBalancerNodePorts"),
            detail,
        ));
    }
    traffic(service, spec, &path, errors);
}

fn by_type(service: &Value, spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let kind = spec.text(&["type"]);
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(service) => {
            let list = path.child("clusterIPs");
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&list.index(0), "None", detail));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let is_set = match spec.field(&[field]) {
                    Some(Value::Array(list)) => !list.is_empty(),
                    other => other.is_some(),
                };
                if is_set {
                    let detail = "may not be set for ExternalName services";
                    errors.push(FieldError::forbidden(&path.child(field), detail));
                }
            }
            let name = spec.text(&["externalName"]).trim_end_matches('.');
            match name {
                "" => errors.push(FieldError::required(&path.child("externalName"), "")),
                name => invalid_each(
                    &path.child("externalName"),
                    name,
                    dns_subdomain_errors(name),
                    errors,
                ),
            }
        }
        _ => {}
    }
}

fn check_port<'s>(
    port: &'s Value,
    named: bool,
    names: &mut HashSet<&'s str>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    match port.text(&["name"]) {
        "" if named => errors.push(FieldError::required(&path.child("name"), "")),
        "" => {}
        name => {
            invalid_each(&path.child("name"), name, dns_label_errors(name), errors);
            if !names.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
    }
    let number = port.number(&["port"]).unwrap_or_default();
    for sentence in port_number_errors(number) {
        errors.push(FieldError::invalid(&path.child("port"), number, sentence));
    }
    one_of(port, "protocol", &PROTOCOLS, path, errors);
    checks::port(port, "targetPort", path, errors);
    let protocol = port.text(&["appProtocol"]);
    if !protocol.is_empty() {
        invalid_each(
            &path.child("appProtocol"),
            protocol,
            qualified_name_errors(protocol),
            errors,
        );
    }
}

fn affinity(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let path = path.child("sessionAffinityConfig");
    let config = spec.field(&["sessionAffinityConfig"]);
    match (spec.text(&["sessionAffinity"]), config) {
        ("ClientIP", Some(config)) => {
            let client = path.child("clientIP");
            let path = client.child("timeoutSeconds");
            match config.number(&["clientIP", "timeoutSeconds"]) {
                None => errors.push(FieldError::required(
                    &path,
                    "when session affinity type is ClientIP",
                )),
                Some(seconds) if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) => {
                    let detail =
                        format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                    errors.push(FieldError::invalid(&path, seconds, detail));
                }
                Some(_) => {}
            }
        }
        ("ClientIP", None) => errors.push(FieldError::required(
            &path,
            "when session affinity type is ClientIP",
        )),
        ("None", Some(_)) => {
            errors.push(FieldError::forbidden(
                &path,
                "must not be set when session affinity is None",
            ));
        }
        _ => {}
    }
}

fn cluster_ips(service: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if service_type(service) == "ExternalName" {
        return;
    }
    let list_path = path.child("clusterIPs");
    let ips = service.list(&["spec", "clusterIPs"]);
    let single = service.text(&["spec", "clusterIP"]);
    if let Some(first) = ips.first().and_then(Value::as_str)
        && first != single
    {
        let value = Value::from(ips.to_vec());
        errors.push(FieldError::invalid(
            &list_path,
            value,
            "first value must match `clusterIP`",
        ));
    }
    for (i, ip) in ips.iter().enumerate() {
        let text = ip.as_str().unwrap_or_default();
        if text == "None" && ips.len() > 1 {
            let detail = "'None' must be the first and only value";
            errors.push(FieldError::invalid(
                &list_path,
                Value::from(ips.to_vec()),
                detail,
            ));
        } else if text != "None" && text.parse::<IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&list_path.index(i), text, detail));
        }
    }
    if ips.len() > 2 {
        let detail = "may only hold up to 2 values";
        errors.push(FieldError::invalid(
            &list_path,
            Value::from(ips.to_vec()),
            detail,
        ));
    }
    let families = path.child("ipFamilies");
    for (i, family) in service.list(&["spec", "ipFamilies"]).iter().enumerate() {
        let text = family.as_str().unwrap_or_default();
        if !matches!(text, "IPv4" | "IPv6") {
            errors.push(FieldError::not_supported(
                &families.index(i),
                text,
                &["IPv4", "IPv6"],
            ));
        }
    }
    if let Some(spec) = service.field(&["spec"]) {
        let supported = ["SingleStack", "PreferDualStack", "RequireDualStack"];
        one_of_if_set(spec, "ipFamilyPolicy", &supported, path, errors);
    }
}

fn unique_ports(spec: &Value, kind: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let (mut node_ports, mut numbers) = (HashSet::new(), HashSet::new());
    for (i, port) in spec.list(&["ports"]).iter().enumerate() {
        let path = path.index(i);
        let protocol = port.text(&["protocol"]);
        let node_port = port.number(&["nodePort"]).unwrap_or_default();
        if node_port != 0 {
            if kind == "ClusterIP" {
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.push(FieldError::forbidden(&path.child("nodePort"), detail));
            }
            if !node_ports.insert((protocol, node_port)) {
                errors.push(FieldError::duplicate(&path.child("nodePort"), node_port));
            }
        }
        let number = port.number(&["port"]).unwrap_or_default();
        if !numbers.insert((protocol, number)) {
            errors.push(FieldError::duplicate(
                &path,
                json!({"protocol": protocol, "port": number}),
            ));
        }
    }
}

fn traffic(service: &Value, spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let external = spec.text(&["externalTrafficPolicy"]);
    if is_external(spec) {
        one_of(
            spec,
            "externalTrafficPolicy",
            &["Cluster", "Local"],
            path,
            errors,
        );
    } else if !external.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(
            &path.child("externalTrafficPolicy"),
            external,
            detail,
        ));
    }
    let health = spec.number(&["healthCheckNodePort"]).unwrap_or_default();
    if !needs_health_check(service) && health != 0 {
        let detail =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(
            &path.child("healthCheckNodePort"),
            health,
            detail,
        ));
    }
    one_of_if_set(
        spec,
        "internalTrafficPolicy",
        &["Cluster", "Local"],
        path,
        errors,
    );
    let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    one_of_if_set(spec, "trafficDistribution", &supported, path, errors);
}

/// Addresses stay with their service.
pub(super) fn cluster_ip_update(service: &Value, old: &Value, errors: &mut Errors) {
    if service_type(service) == "ExternalName" || service_type(old) == "ExternalName" {
        return;
    }
    if is_headless(service) && is_headless(old) {
        return;
    }
    let (ips, old_ips) = (
        service.list(&["spec", "clusterIPs"]),
        old.list(&["spec", "clusterIPs"]),
    );
    let list = FieldPath::root("spec.clusterIPs");
    let value = || Value::from(ips.to_vec());
    if ips.is_empty() && !old_ips.is_empty() {
        errors.push(FieldError::invalid(
            &list.index(0),
            value(),
            "primary clusterIP can not be unset",
        ));
    }
    for (i, (ip, old)) in ips.iter().zip(old_ips).enumerate() {
        if ip != old {
            errors.push(FieldError::invalid(
                &list.index(i),
                value(),
                "may not change once set",
            ));
        }
    }
    if ips.len() == 1
        && old_ips.len() == 2
        && service.text(&["spec", "ipFamilyPolicy"]) != "SingleStack"
    {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        let policy = service.text(&["spec", "ipFamilyPolicy"]);
        errors.push(FieldError::invalid(
            &FieldPath::root("spec.ipFamilyPolicy"),
            policy,
            detail,
        ));
    }
}
