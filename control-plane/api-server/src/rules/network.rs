//! Endpoints, endpoint slices, ingresses and network policies.

use std::net::IpAddr;

use api_machinery::{
    FieldError, FieldPath, ObjectExt, ObjectMutExt, dns_label_errors, dns_subdomain_errors,
    wildcard_subdomain_errors,
};
use serde_json::{Value, json};

use super::Rules;
use super::checks::{self, Errors, immutable, invalid_each, one_of};
use super::values::{each, fill, fill_text, get_mut};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MAX_ENDPOINTS: usize = 1000;

pub(super) struct Endpoints;

impl Rules for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in each(object, "subsets") {
            each(subset, "ports").for_each(|port| fill_text(port, "protocol", "TCP"));
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let list = FieldPath::root("subsets");
        for (i, subset) in object.list(&["subsets"]).iter().enumerate() {
            let path = list.index(i);
            let [ready, not_ready] =
                ["addresses", "notReadyAddresses"].map(|field| subset.list(&[field]));
            if ready.is_empty() && not_ready.is_empty() {
                errors.push(FieldError::required(
                    &path,
                    "must specify `addresses` or `notReadyAddresses`",
                ));
            }
            for (field, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
                let list = path.child(field);
                for (j, address) in addresses.iter().enumerate() {
                    endpoint_ip(address.text(&["ip"]), &list.index(j).child("ip"), errors);
                }
            }
            let ports = path.child("ports");
            let count = subset.list(&["ports"]).len();
            for (j, port) in subset.list(&["ports"]).iter().enumerate() {
                let path = ports.index(j);
                match port.text(&["name"]) {
                    "" if count > 1 => errors.push(FieldError::required(&path.child("name"), "")),
                    "" => {}
                    name => invalid_each(&path.child("name"), name, dns_label_errors(name), errors),
                }
                checks::port(port, "port", &path, errors);
                one_of(port, "protocol", &PROTOCOLS, &path, errors);
            }
        }
    }
}

/// An address to which traffic may be sent: none that only this machine or link understands.
fn endpoint_ip(text: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let detail = match text.parse::<IpAddr>() {
        Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        Ok(ip) if ip.is_unspecified() => "may not be unspecified (0.0.0.0 or ::)",
        Ok(ip) if ip.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        Ok(IpAddr::V4(ip)) if ip.is_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        Ok(_) => return,
    };
    errors.push(FieldError::invalid(path, text, detail));
}

pub(super) struct EndpointSlice;

impl Rules for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for port in each(object, "ports") {
            fill(port, "name", "");
            fill(port, "protocol", "TCP");
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let root = FieldPath::root("");
        one_of(
            object,
            "addressType",
            &["FQDN", "IPv4", "IPv6"],
            &root,
            errors,
        );
        let list = FieldPath::root("endpoints");
        let endpoints = object.list(&["endpoints"]);
        if endpoints.len() > MAX_ENDPOINTS {
            errors.push(FieldError::too_many(&list, endpoints.len(), MAX_ENDPOINTS));
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            let path = list.index(i);
            let addresses = path.child("addresses");
            if endpoint.list(&["addresses"]).is_empty() {
                errors.push(FieldError::required(
                    &addresses,
                    "must contain at least 1 address",
                ));
            }
            for (j, address) in endpoint.list(&["addresses"]).iter().enumerate() {
                let text = address.as_str().unwrap_or_default();
                let path = addresses.index(j);
                match (object.text(&["addressType"]), text.parse::<IpAddr>()) {
                    ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => {
                        endpoint_ip(text, &path, errors)
                    }
                    ("IPv4", _) => {
                        errors.push(FieldError::invalid(&path, text, "must be an IPv4 address"))
                    }
                    ("IPv6", _) => {
                        errors.push(FieldError::invalid(&path, text, "must be an IPv6 address"))
                    }
                    _ => invalid_each(&path, text, dns_subdomain_errors(text), errors),
                }
            }
        }
        let list = FieldPath::root("ports");
        for (i, port) in object.list(&["ports"]).iter().enumerate() {
            let path = list.index(i);
            let name = port.text(&["name"]);
            if !name.is_empty() {
                invalid_each(&path.child("name"), name, dns_label_errors(name), errors);
            }
            one_of(port, "protocol", &PROTOCOLS, &path, errors);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(object, errors);
        immutable(object, old, &["addressType"], errors);
    }
}

pub(super) struct Ingress;

impl Rules for Ingress {
    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], json!({"loadBalancer": {}}));
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let empty = Value::Null;
        let spec = object.field(&["spec"]).unwrap_or(&empty);
        let path = FieldPath::root("spec");
        let rules = spec.list(&["rules"]);
        if rules.is_empty() && spec.field(&["defaultBackend"]).is_none() {
            errors.push(FieldError::invalid(
                &path,
                json!([]),
                "either `defaultBackend` or `rules` must be specified",
            ));
        }
        if let Some(backend) = spec.field(&["defaultBackend"]) {
            ingress_backend(backend, &path.child("defaultBackend"), errors);
        }
        let list = path.child("rules");
        for (i, rule) in rules.iter().enumerate() {
            let path = list.index(i);
            ingress_host(rule.text(&["host"]), &path.child("host"), errors);
            if let Some(http) = rule.field(&["http"]) {
                ingress_paths(http.list(&["paths"]), &path.child("http.paths"), errors);
            }
        }
    }
}

fn ingress_host(host: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if host.parse::<IpAddr>().is_ok() {
        let detail = "must be a DNS name, not an IP address";
        errors.push(FieldError::invalid(path, host, detail));
    } else if host.contains('*') {
        invalid_each(path, host, wildcard_subdomain_errors(host), errors);
    } else if !host.is_empty() {
        invalid_each(path, host, dns_subdomain_errors(host), errors);
    }
}

fn ingress_paths(entries: &[Value], list: &FieldPath<'_>, errors: &mut Errors) {
    const KINDS: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
    if entries.is_empty() {
        errors.push(FieldError::required(list, ""));
    }
    for (i, entry) in entries.iter().enumerate() {
        let path = list.index(i);
        let text = entry.text(&["path"]);
        let kind_path = path.child("pathType");
        match entry.text(&["pathType"]) {
            "" => errors.push(FieldError::required(
                &kind_path,
                "pathType must be specified",
            )),
            "Exact" | "Prefix" if !text.starts_with('/') => {
                let detail = "must be an absolute path";
                errors.push(FieldError::invalid(&path.child("path"), text, detail));
            }
            kind if KINDS.contains(&kind) => {}
            kind => errors.push(FieldError::not_supported(&kind_path, kind, &KINDS)),
        }
        match entry.field(&["backend"]) {
            Some(backend) => ingress_backend(backend, &path.child("backend"), errors),
            None => errors.push(FieldError::required(&path.child("backend"), "")),
        }
    }
}

fn ingress_backend(backend: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    match (backend.field(&["service"]), backend.field(&["resource"])) {
        (Some(_), Some(_)) => {
            let detail = "cannot set both resource and service backends";
            errors.push(FieldError::invalid(path, "", detail));
        }
        (None, None) => errors.push(FieldError::required(
            path,
            "a service or resource backend is required",
        )),
        (Some(service), None) => {
            let path = path.child("service");
            match service.text(&["name"]) {
                "" => errors.push(FieldError::required(&path.child("name"), "")),
                name => invalid_each(&path.child("name"), name, dns_label_errors(name), errors),
            }
            let port_path = path.child("port");
            match (
                service.text(&["port", "name"]),
                service.number(&["port", "number"]).unwrap_or_default(),
            ) {
                ("", 0) => errors.push(FieldError::required(
                    &path,
                    "port name or number is required",
                )),
                ("", number) => {
                    for sentence in api_machinery::port_number_errors(number) {
                        errors.push(FieldError::invalid(
                            &port_path.child("number"),
                            number,
                            sentence,
                        ));
                    }
                }
                (_, 0) => {}
                _ => errors.push(FieldError::invalid(
                    &path,
                    "",
                    "cannot set both port name & port number",
                )),
            }
        }
        (None, Some(_)) => {}
    }
}

pub(super) struct IngressClass;

impl Rules for IngressClass {
    fn default(&self, object: &mut Value) {
        if let Some(parameters) = get_mut(object, &["spec", "parameters"]) {
            fill(parameters, "scope", "Cluster");
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        immutable(object, old, &["spec", "controller"], errors);
    }
}

pub(super) struct NetworkPolicy;

impl Rules for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        let Some(spec) = get_mut(object, &["spec"]) else {
            return;
        };
        if spec.list(&["policyTypes"]).is_empty() {
            let egress = !spec.list(&["egress"]).is_empty();
            let types = if egress {
                json!(["Ingress", "Egress"])
            } else {
                json!(["Ingress"])
            };
            spec.set(&["policyTypes"], types);
        }
        for direction in ["ingress", "egress"] {
            for rule in each(spec, direction) {
                each(rule, "ports").for_each(|port| fill(port, "protocol", "TCP"));
            }
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("spec");
        if let Some(selector) = object.field(&["spec", "podSelector"]) {
            checks::label_selector(selector, &path.child("podSelector"), errors);
        }
        let types = path.child("policyTypes");
        let list = object.list(&["spec", "policyTypes"]);
        if list.len() > 2 {
            let detail = "may not specify more than two policyTypes";
            errors.push(FieldError::invalid(
                &types,
                Value::from(list.to_vec()),
                detail,
            ));
        }
        for (i, kind) in list.iter().filter_map(Value::as_str).enumerate() {
            if !matches!(kind, "Ingress" | "Egress") {
                errors.push(FieldError::not_supported(
                    &types.index(i),
                    kind,
                    &["Ingress", "Egress"],
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::{created, stored};

    #[test]
    fn slices_are_checked() {
        let slice = |address: &str| json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}]});
        assert_eq!(created(&EndpointSlice, slice("10.0.0.1")), [""; 0]);
        assert_eq!(
            created(&EndpointSlice, slice("127.0.0.1")),
            [
                "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
            ]
        );
        assert_eq!(
            stored(&EndpointSlice, slice("10.0.0.1"))["ports"][0],
            json!({"port": 80, "name": "", "protocol": "TCP"})
        );
    }

    #[test]
    fn ingresses_are_checked() {
        let ingress = |spec: Value| json!({"metadata": {"name": "i"}, "spec": spec});
        let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
        assert_eq!(
            created(&Ingress, ingress(json!({"defaultBackend": backend}))),
            [""; 0]
        );
        assert_eq!(
            created(
                &Ingress,
                ingress(
                    json!({"rules": [{"http": {"paths": [{"path": "x", "pathType": "Prefix", "backend": {}}]}}]})
                )
            ),
            [
                "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
                "spec.rules[0].http.paths[0].backend: Required value: a service or resource backend is required"
            ]
        );
    }
}
