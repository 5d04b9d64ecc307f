//! Where a Service's traffic may go: the endpoint slices and (older) endpoints objects made from its selector and pods.
//!
//! This file holds what both have in common: which pods count, on which ports, and which services a pod's change
//! concerns. Services without a selector are never touched: their endpoints are their owner's.

mod allocation;
mod endpoints;
mod mirroring;
mod slices;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api_client::{Change, Informer, ObjectKey};
use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::context::{Context, Queue, enqueue_on_change};
use crate::support::{Meta, is_ready, is_terminal, matches_all, node_name};

pub(crate) use endpoints::start as start_endpoints;
pub(crate) use mirroring::start as start_mirroring;
pub(crate) use slices::start as start_slices;

/// Label on slices and endpoints of services without an address of their own.
const HEADLESS: &str = "service.kubernetes.io/headless";

fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    spec.selector
        .as_ref()
        .filter(|_| spec.type_.as_deref() != Some("ExternalName"))
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

fn publishes_not_ready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|s| s.publish_not_ready_addresses)
        .unwrap_or(false)
}

fn ports(service: &Service) -> &[ServicePort] {
    service
        .spec
        .as_ref()
        .and_then(|s| s.ports.as_deref())
        .unwrap_or_default()
}

/// Whether the pod can receive traffic at all, be it only until its connections have drained.
fn belongs(pod: &Pod, include_terminating: bool) -> bool {
    !is_terminal(pod) && !addresses(pod).is_empty() && (include_terminating || !pod.is_deleting())
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all: Vec<IpAddr> = status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.ip.parse().ok())
        .collect();
    if !all.is_empty() {
        return all;
    }
    status
        .pod_ip
        .iter()
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

/// The host name that a pod has in DNS under this service.
fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let named =
        spec.subdomain.as_deref() == Some(service.name()) && pod.namespace() == service.namespace();
    spec.hostname
        .clone()
        .filter(|name| named && !name.is_empty())
}

/// The number of the pod's port that a service port leads to; none if the pod has no port of that name.
fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .find_map(|container| named_port(container, name, protocol))
}

fn named_port(container: &Container, name: &str, protocol: &str) -> Option<i32> {
    let mut ports = container.ports.iter().flatten();
    let found = ports.find(|p| {
        p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    found.map(|port| port.container_port)
}

/// The service's pods, in order of their names.
fn selected_pods(
    pods: &Informer<Pod>,
    service: &Service,
    selector: &BTreeMap<String, String>,
) -> Vec<Arc<Pod>> {
    let all = pods.list_namespace(service.namespace()).into_iter();
    all.filter(|pod| matches_all(selector, pod.labels()))
        .collect()
}

/// Every change of a service, and every change of a pod that matters to one, puts the service into the queue.
fn route(context: &Context, queue: &Queue) {
    let services = context.informer::<Service>();
    enqueue_on_change(&services, queue);
    let queue = queue.clone();
    context.informer::<Pod>().on_change(move |change| {
        let pod = change.object();
        let former = match change {
            Change::Applied { old: Some(old), .. } if is_alike(old, pod) => return,
            Change::Applied { old, .. } => old.clone(),
            Change::Deleted(_) => None,
        };
        for service in services.list_namespace(pod.namespace()) {
            let Some(selector) = selector(&service) else {
                continue;
            };
            let selected = |pod: &Arc<Pod>| matches_all(selector, pod.labels());
            if selected(pod) || former.as_ref().is_some_and(selected) {
                queue.add(ObjectKey::of(service.as_ref()));
            }
        }
    });
}

/// Whether two forms of a pod are the same to every service.
fn is_alike(old: &Pod, new: &Pod) -> bool {
    let name = |pod: &Pod| {
        pod.spec
            .as_ref()
            .map(|s| (s.hostname.clone(), s.subdomain.clone()))
    };
    old.uid() == new.uid()
        && old.labels() == new.labels()
        && addresses(old) == addresses(new)
        && is_ready(old) == is_ready(new)
        && is_terminal(old) == is_terminal(new)
        && old.is_deleting() == new.is_deleting()
        && node_name(old) == node_name(new)
        && name(old) == name(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn named_ports_are_found_by_name_and_protocol() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "web", "containerPort": 8080}]}]}}))
        .expect("a pod");
        let check = |target: serde_json::Value, protocol: &str, expect| {
            let port = serde_json::from_value(
                json!({"port": 80, "targetPort": target, "protocol": protocol}),
            );
            assert_eq!(target_port(&pod, &port.expect("a port")), expect);
        };
        check(json!("web"), "TCP", Some(8080));
        check(json!("dns"), "UDP", Some(53));
        check(json!("dns"), "TCP", None);
        check(json!(9000), "TCP", Some(9000));
    }
}
