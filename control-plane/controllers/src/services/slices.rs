//! EndpointSlices: one or more per Service and address family, of at most a hundred endpoints each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api_client::{Client, Informer, ObjectKey, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::allocation::{Actions, Desired, allocate};
use super::{
    HEADLESS, addresses, belongs, hostname, is_headless, ports, publishes_not_ready, route,
    selected_pods, selector, target_port,
};
use crate::context::{Context, Controller, Queue};
use crate::error::{Error, Outcome};
use crate::support::{
    Expectations, Meta, Selector, is_namespace_terminating, is_ready, node_name, owner_reference,
    route_dependents,
};

pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Index: namespace and service of the slices that this controller manages.
const BY_SERVICE: &str = "managed slices by service";

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    route(context, queue);
    let expectations = Arc::new(Expectations::default());
    // Slices are never adopted.
    route_dependents::<Service, EndpointSlice>(context, queue, expectations.clone(), |_| {
        Selector::new(None)
    });
    let slices = context.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, |slice| {
        let managed = slice
            .labels()
            .get(MANAGED_BY)
            .is_some_and(|by| by == CONTROLLER);
        let service = slice.labels().get(SERVICE_NAME).filter(|_| managed);
        service
            .map(|name| format!("{}/{name}", slice.namespace()))
            .into_iter()
            .collect()
    });
    Arc::new(EndpointSlices {
        client: context.client.clone(),
        services: context.informer(),
        pods: context.informer(),
        nodes: context.informer(),
        slices,
        expectations,
    })
}

struct EndpointSlices {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    expectations: Arc<Expectations>,
}

#[async_trait]
impl Controller for EndpointSlices {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(service) = self.services.get(key) else {
            // Its slices are the garbage collector's.
            self.expectations.forget(key);
            return Ok(());
        };
        let Some(selector) = selector(&service) else {
            return Ok(());
        };
        if service.is_deleting() || !self.expectations.satisfied(key) {
            return Ok(());
        }
        let existing = self.slices.by_index(BY_SERVICE, &key.to_string());
        let pods = selected_pods(&self.pods, &service, selector);
        let mut nodeless = false;
        let mut desired = Vec::new();
        for pod in pods.iter().filter(|pod| belongs(pod, true)) {
            let node = self.nodes.get(&ObjectKey::new("", node_name(pod)));
            if node.is_none() && !publishes_not_ready(&service) {
                nodeless = true;
                continue;
            }
            desired.extend(endpoints_of(&service, pod, node.as_deref()));
        }
        let template = template(&service);
        let existing: Vec<EndpointSlice> = existing.iter().map(|slice| (**slice).clone()).collect();
        self.carry_out(
            key,
            allocate(&template, &address_types(&service), desired, existing),
        )
        .await?;
        if nodeless {
            return Err(Error::NotReady(format!(
                "a pod of service {key} is on a node that is not known yet"
            )));
        }
        Ok(())
    }
}

impl EndpointSlices {
    async fn carry_out(&self, key: &ObjectKey, actions: Actions) -> Outcome {
        for slice in &actions.create {
            self.expectations.expect_creations(key, 1);
            if let Err(status) = self.client.create(key.namespace(), slice).await {
                self.expectations.creation_observed(key);
                if is_namespace_terminating(&status) {
                    return Ok(());
                }
                return Err(status.into());
            }
        }
        for slice in &actions.update {
            self.client.update(slice).await?;
        }
        for slice in &actions.delete {
            match self
                .client
                .delete::<EndpointSlice>(key.namespace(), slice.name(), &Default::default())
                .await
            {
                Err(status) if !is_not_found(&status) => return Err(status.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A slice of this service, still without endpoints.
fn template(service: &Service) -> EndpointSlice {
    let mut labels: BTreeMap<String, String> = service.labels().clone();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: service.metadata.namespace.clone(),
            owner_references: Some(vec![owner_reference(service)]),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        address_type: String::new(),
        endpoints: Some(Vec::new()),
        ports: None,
    }
}

/// `IPv4`, `IPv6` or both.
fn address_types(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|s| s.ip_families.clone()).unwrap_or_default();
    if !families.is_empty() {
        return families;
    }
    match spec
        .and_then(|s| s.cluster_ip.as_deref())
        .and_then(|ip| ip.parse::<IpAddr>().ok())
    {
        Some(address) => vec![family(address).to_owned()],
        None => vec!["IPv4".to_owned(), "IPv6".to_owned()],
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// One endpoint per address family of the pod, with the ports that the service leads to there.
fn endpoints_of(service: &Service, pod: &Pod, node: Option<&Node>) -> Vec<Desired> {
    let ports: Vec<EndpointPort> = ports(service)
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    let mut by_family: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for address in addresses(pod) {
        by_family
            .entry(family(address))
            .or_default()
            .push(address.to_string());
    }
    let families = by_family.into_iter();
    families
        .map(|(address_type, addresses)| Desired {
            address_type: address_type.into(),
            ports: ports.clone(),
            endpoint: endpoint(service, pod, node, addresses),
        })
        .collect()
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, addresses: Vec<String>) -> Endpoint {
    let (serving, terminating) = (is_ready(pod), pod.is_deleting());
    let ready = publishes_not_ready(service) || (serving && !terminating);
    let zone = node
        .and_then(|node| node.labels().get(ZONE))
        .filter(|zone| !zone.is_empty())
        .cloned();
    let node_name = Some(node_name(pod).to_owned()).filter(|name| !name.is_empty());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: ready
            .then(|| hints(service, zone.as_deref(), node_name.as_deref()))
            .flatten(),
        hostname: hostname(pod, service),
        node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        deprecated_topology: None,
    }
}

/// Where traffic to the endpoint should come from, when the service prefers it close.
fn hints(service: &Service, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let zones = || zone.map(|name| vec![ForZone { name: name.into() }]);
    match distribution {
        "PreferClose" | "PreferSameZone" => zones().map(|zones| EndpointHints {
            for_zones: Some(zones),
            for_nodes: None,
        }),
        "PreferSameNode" => {
            let nodes = node.map(|name| vec![ForNode { name: name.into() }]);
            (nodes.is_some() || zone.is_some()).then(|| EndpointHints {
                for_nodes: nodes,
                for_zones: zones(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(publish: bool, ready: bool, terminating: bool) -> String {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
            "spec": {"publishNotReadyAddresses": publish, "ports": [{"port": 80, "targetPort": "web"}],
                "trafficDistribution": "PreferClose"},
        }))
        .expect("a service");
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "ns", "uid": "p"},
            "spec": {"nodeName": "n", "hostname": "h", "subdomain": "web",
                "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .expect("a pod");
        if terminating {
            pod.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time::from(
                    k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
                ));
        }
        let node: Node =
            serde_json::from_value(json!({"metadata": {"labels": {ZONE: "z1"}}})).expect("a node");
        let all = endpoints_of(&service, &pod, Some(&node));
        let line = |d: &Desired| {
            let conditions = d.endpoint.conditions.as_ref().expect("conditions");
            let flag = |value: Option<bool>| if value == Some(true) { "1" } else { "0" };
            format!(
                "{} {}:{} {}{}{} {} {} hints={}",
                d.address_type,
                d.endpoint.addresses[0],
                d.ports[0].port.expect("a port"),
                flag(conditions.ready),
                flag(conditions.serving),
                flag(conditions.terminating),
                d.endpoint.zone.as_deref().unwrap_or("-"),
                d.endpoint.hostname.as_deref().unwrap_or("-"),
                d.endpoint.hints.is_some(),
            )
        };
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn endpoints_tell_their_condition_place_and_name() {
        assert_eq!(
            text(false, true, false),
            "IPv4 10.0.0.1:8080 110 z1 h hints=true\nIPv6 fd00::1:8080 110 z1 h hints=true"
        );
        assert!(text(false, true, true).starts_with("IPv4 10.0.0.1:8080 011 z1 h hints=false"));
        assert!(text(false, false, false).starts_with("IPv4 10.0.0.1:8080 000"));
        assert!(text(true, false, true).starts_with("IPv4 10.0.0.1:8080 101"));
    }
}
