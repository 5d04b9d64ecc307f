//! Endpoints objects: the older form of endpoint slices, one object per Service, for clients that still read them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api_client::{Change, Client, EventRecorder, EventType, Informer, ObjectKey, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    HEADLESS, addresses, belongs, hostname, is_headless, ports, publishes_not_ready, route,
    selected_pods, selector, target_port,
};
use crate::context::{Context, Controller, Queue};
use crate::error::{Error, Outcome};
use crate::support::{Meta, is_namespace_terminating, is_ready, node_name};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object; more are left out and the object says so.
const MAX_ADDRESSES: usize = 1000;

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    route(context, queue);
    let endpoints = context.informer::<Endpoints>();
    let keys = queue.clone();
    endpoints.on_change(move |change| {
        if let Change::Deleted(gone) = change {
            keys.add(ObjectKey::of(gone.as_ref()));
        }
    });
    Arc::new(EndpointsController {
        client: context.client.clone(),
        recorder: context.recorder.clone(),
        services: context.informer(),
        pods: context.informer(),
        endpoints,
    })
}

struct EndpointsController {
    client: Client,
    recorder: EventRecorder,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
}

#[async_trait]
impl Controller for EndpointsController {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(service) = self.services.get(key) else {
            return self.remove(key).await;
        };
        let Some(selector) = selector(&service) else {
            return Ok(());
        };
        let pods = selected_pods(&self.pods, &service, selector);
        let current = self.endpoints.get(key);
        let Some(wanted) = corrected(&service, current.as_deref(), subsets(&service, &pods)) else {
            return Ok(());
        };
        let (answer, event) = match current {
            None => (
                self.client.create(key.namespace(), &wanted).await,
                (
                    "FailedToCreateEndpoint",
                    format!("Failed to create endpoint for service {key}"),
                ),
            ),
            Some(_) => (
                self.client.update(&wanted).await,
                (
                    "FailedToUpdateEndpoint",
                    format!("Failed to update endpoint {key}"),
                ),
            ),
        };
        match answer {
            Err(status) if is_namespace_terminating(&status) => Ok(()),
            Err(status) => {
                let error = Error::from(status);
                if !error.is_routine() {
                    let (reason, message) = event;
                    let message = format!("{message}: {error}");
                    self.recorder
                        .record_for(&wanted, EventType::Warning, reason, message);
                }
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }
}

impl EndpointsController {
    async fn remove(&self, key: &ObjectKey) -> Outcome {
        if self.endpoints.get(key).is_none() {
            return Ok(());
        }
        match self
            .client
            .delete::<Endpoints>(key.namespace(), &key.name, &Default::default())
            .await
        {
            Err(status) if !is_not_found(&status) => Err(status.into()),
            _ => Ok(()),
        }
    }
}

/// The object as it should be; none if it is so already.
fn corrected(
    service: &Service,
    current: Option<&Endpoints>,
    subsets: Vec<EndpointSubset>,
) -> Option<Endpoints> {
    let mut wanted = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    let mut labels: BTreeMap<String, String> = service.labels().clone();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    wanted.metadata.labels = Some(labels);
    let (subsets, truncated) = truncated(subsets);
    wanted.subsets = Some(subsets).filter(|all| !all.is_empty());
    if truncated {
        wanted
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(OVER_CAPACITY.into(), "truncated".into());
    } else if let Some(annotations) = &mut wanted.metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    (current != Some(&wanted)).then_some(wanted)
}

/// Leaves out what is beyond the limit, ready addresses last.
fn truncated(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let mut room = MAX_ADDRESSES;
    let mut cut = |addresses: &mut Option<Vec<EndpointAddress>>| {
        let Some(all) = addresses else { return false };
        let over = all.len() > room;
        all.truncate(room);
        room -= all.len();
        if all.is_empty() {
            *addresses = None;
        }
        over
    };
    // Ready addresses first; every list is cut, so neither loop may stop early.
    let mut over = 0;
    for subset in &mut subsets {
        over += usize::from(cut(&mut subset.addresses));
    }
    for subset in &mut subsets {
        over += usize::from(cut(&mut subset.not_ready_addresses));
    }
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    (subsets, over > 0)
}

/// An address in order of IP and pod.
type AddressKey = (String, String);

/// The pods' addresses, grouped so that ports with the same addresses share a subset.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = publishes_not_ready(service);
    let mut by_key: BTreeMap<AddressKey, EndpointAddress> = BTreeMap::new();
    // Ports (none for a headless service without ports) with the ready and the other addresses.
    type Ends = (BTreeSet<AddressKey>, BTreeSet<AddressKey>);
    let mut by_port: Vec<(Option<EndpointPort>, Ends)> = Vec::new();
    for pod in pods.iter().filter(|pod| belongs(pod, publish)) {
        let Some(address) = address(service, pod) else {
            continue;
        };
        let key = (address.ip.clone(), pod.uid().to_owned());
        by_key.insert(key.clone(), address);
        for port in endpoint_ports(service, pod) {
            let at = by_port
                .iter()
                .position(|(known, _)| *known == port)
                .unwrap_or_else(|| {
                    by_port.push((port, Ends::default()));
                    by_port.len() - 1
                });
            let (ready, other) = &mut by_port[at].1;
            if publish || is_ready(pod) {
                ready.insert(key.clone())
            } else {
                other.insert(key.clone())
            };
        }
    }
    let mut by_addresses: BTreeMap<Ends, Vec<EndpointPort>> = BTreeMap::new();
    for (port, ends) in by_port {
        by_addresses.entry(ends).or_default().extend(port);
    }
    let list = |keys: BTreeSet<AddressKey>| {
        let all: Vec<EndpointAddress> = keys
            .iter()
            .filter_map(|key| by_key.get(key).cloned())
            .collect();
        Some(all).filter(|all| !all.is_empty())
    };
    let subset = |((ready, other), mut ports): (Ends, Vec<EndpointPort>)| {
        ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
        let ports = Some(ports).filter(|ports| !ports.is_empty());
        EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(other),
            ports,
        }
    };
    by_addresses.into_iter().map(subset).collect()
}

fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<Option<EndpointPort>> {
    if ports(service).is_empty() {
        return if is_headless(service) {
            vec![None]
        } else {
            Vec::new()
        };
    }
    let all = ports(service).iter();
    all.filter_map(|port| {
        Some(Some(EndpointPort {
            name: port.name.clone(),
            port: target_port(pod, port)?,
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        }))
    })
    .collect()
}

/// The pod's address of the service's first family.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref()?;
    let family = spec
        .ip_families
        .as_ref()
        .and_then(|f| f.first())
        .map(|family| family == "IPv6");
    let ipv6 = family.unwrap_or_else(|| {
        spec.cluster_ip
            .as_ref()
            .and_then(|ip| ip.parse::<IpAddr>().ok())
            .is_some_and(|ip| ip.is_ipv6())
    });
    let ip = addresses(pod).into_iter().find(|ip| ip.is_ipv6() == ipv6)?;
    Some(EndpointAddress {
        ip: ip.to_string(),
        hostname: hostname(pod, service),
        node_name: Some(node_name(pod).to_owned()).filter(|name| !name.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, ip: &str, ready: bool, named: bool) -> Arc<Pod> {
        let ports = if named {
            json!([{"name": "admin", "containerPort": 9000}])
        } else {
            json!([])
        };
        let value = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIP": ip, "phase": "Running",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        });
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"clusterIP": "10.1.0.1", "ports": [
                {"name": "web", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                {"name": "admin", "port": 81, "targetPort": "admin", "protocol": "TCP"}]},
        }))
        .expect("a service")
    }

    fn text(subsets: &[EndpointSubset]) -> Vec<String> {
        let list = |all: &Option<Vec<EndpointAddress>>| -> String {
            all.iter()
                .flatten()
                .map(|a| a.ip.as_str())
                .collect::<Vec<_>>()
                .join(",")
        };
        let ports = |s: &EndpointSubset| -> String {
            s.ports
                .iter()
                .flatten()
                .map(|p| p.port.to_string())
                .collect::<Vec<_>>()
                .join(",")
        };
        subsets
            .iter()
            .map(|s| {
                format!(
                    "[{}] [{}] :{}",
                    list(&s.addresses),
                    list(&s.not_ready_addresses),
                    ports(s)
                )
            })
            .collect()
    }

    #[test]
    fn ports_with_the_same_addresses_share_a_subset() {
        let pods = [
            pod("a", "10.0.0.1", true, true),
            pod("b", "10.0.0.2", false, true),
        ];
        assert_eq!(
            text(&subsets(&service(), &pods)),
            ["[10.0.0.1] [10.0.0.2] :9000,8080"]
        );
        let pods = [
            pod("a", "10.0.0.1", true, true),
            pod("b", "10.0.0.2", true, false),
        ];
        assert_eq!(
            text(&subsets(&service(), &pods)),
            ["[10.0.0.1] [] :9000", "[10.0.0.1,10.0.0.2] [] :8080"]
        );
    }

    #[test]
    fn too_many_addresses_are_cut_and_it_is_said() {
        let ready = |n: usize| EndpointAddress {
            ip: n.to_string(),
            ..EndpointAddress::default()
        };
        let subset = EndpointSubset {
            addresses: Some((0..900).map(ready).collect()),
            not_ready_addresses: Some((0..200).map(ready).collect()),
            ports: None,
        };
        let endpoints = corrected(&service(), None, vec![subset]).expect("new");
        let subset = &endpoints.subsets.as_ref().expect("subsets")[0];
        let counts = [&subset.addresses, &subset.not_ready_addresses]
            .map(|a| a.as_ref().map_or(0, Vec::len));
        assert_eq!(counts, [900, 100]);
        assert_eq!(endpoints.annotation(OVER_CAPACITY), Some("truncated"));
        assert_eq!(
            corrected(
                &service(),
                Some(&endpoints),
                endpoints.subsets.clone().expect("subsets")
            ),
            {
                let mut within = endpoints.clone();
                within
                    .metadata
                    .annotations
                    .as_mut()
                    .expect("annotations")
                    .clear();
                Some(within)
            }
        );
    }
}
