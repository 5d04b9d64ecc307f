//! Services and EndpointSlices reduced to what proxy and DNS need, and indexed by service.
//!
//! Pure: objects in, state out. It must not know where the objects come from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};

/// Ties an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// A Service with this label is another proxy's business (KEP-2447).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// `sessionAffinityConfig.clientIP.timeoutSeconds` when it is not set.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// A transport protocol of Services and pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// Reads the API's spelling; nothing means TCP.
    pub fn parse(text: Option<&str>) -> Option<Protocol> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    /// As `nft` and DNS labels spell it.
    pub fn lowercase(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// Namespace and name.
pub(crate) type Key = (String, String);

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    /// Zero when there is none.
    pub(crate) node_port: u16,
}

/// Session affinity by the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub(crate) timeout_seconds: u32,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceInfo {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) headless: bool,
    pub(crate) external_name: Option<String>,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) external_ips: Vec<IpAddr>,
    pub(crate) load_balancer_ips: Vec<IpAddr>,
    pub(crate) source_ranges: Vec<IpNet>,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    pub(crate) publish_not_ready: bool,
    /// Whether rules are this proxy's business.
    pub(crate) proxied: bool,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
}

/// A port of a slice; its name is the one of the service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlicePort {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceInfo {
    pub(crate) key: Key,
    pub(crate) service: Key,
    pub(crate) ports: Vec<SlicePort>,
    pub(crate) endpoints: Vec<Endpoint>,
}

fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    texts
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn port_number(port: i32) -> u16 {
    u16::try_from(port).unwrap_or(0)
}

impl ServiceInfo {
    /// Takes from a Service what is needed; `None` for an object without a name.
    pub(crate) fn from_api(service: &Service) -> Option<ServiceInfo> {
        let metadata = &service.metadata;
        let spec = service.spec.as_ref()?;
        let mut cluster_ips = addresses(spec.cluster_ips.iter().flatten());
        if cluster_ips.is_empty() {
            cluster_ips = addresses(spec.cluster_ip.iter());
        }
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let external = kind == "ExternalName";
        let ingress = service
            .status
            .iter()
            .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        // An address of mode Proxy is the load balancer's own: traffic comes back from it, not past it (KEP-1860).
        let load_balancer_ips = ingress
            .flatten()
            .filter(|ingress| kind == "LoadBalancer" && ingress.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
            .collect();
        let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let seconds = spec
                .session_affinity_config
                .as_ref()
                .and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
            let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
            Affinity {
                timeout_seconds: seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS),
            }
        });
        let labels = metadata.labels.as_ref();
        Some(ServiceInfo {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            headless: !external && spec.cluster_ip.as_deref() == Some("None"),
            cluster_ips: if external { Vec::new() } else { cluster_ips },
            external_name: if external {
                spec.external_name.clone()
            } else {
                None
            },
            ports: spec
                .ports
                .iter()
                .flatten()
                .filter_map(service_port)
                .collect(),
            external_ips: addresses(spec.external_ips.iter().flatten()),
            load_balancer_ips,
            source_ranges: spec
                .load_balancer_source_ranges
                .iter()
                .flatten()
                .filter_map(|range| range.trim().parse().ok())
                .collect(),
            affinity,
            internal_local: local(&spec.internal_traffic_policy),
            external_local: local(&spec.external_traffic_policy),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            proxied: !labels.is_some_and(|labels| labels.contains_key(PROXY_NAME_LABEL)),
        })
    }

    pub(crate) fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }
}

fn service_port(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: port_number(port.port),
        node_port: port.node_port.map_or(0, port_number),
    })
}

impl SliceInfo {
    /// Takes from a slice what is needed; `None` when it belongs to no Service or holds names instead of addresses.
    pub(crate) fn from_api(slice: &EndpointSlice) -> Option<SliceInfo> {
        if slice.address_type == "FQDN" {
            return None;
        }
        let namespace = slice.metadata.namespace.clone()?;
        let service = slice
            .metadata
            .labels
            .as_ref()?
            .get(SERVICE_NAME_LABEL)?
            .clone();
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(SlicePort {
                name: port.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: port_number(port.port?),
            })
        });
        Some(SliceInfo {
            key: (namespace.clone(), slice.metadata.name.clone()?),
            service: (namespace, service),
            ports: ports.collect(),
            endpoints: slice
                .endpoints
                .iter()
                .flatten()
                .filter_map(endpoint)
                .collect(),
        })
    }
}

/// Only the first address counts; what is unknown counts as ready and serving, as the API says.
fn endpoint(endpoint: &ApiEndpoint) -> Option<Endpoint> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    Some(Endpoint {
        address: endpoint.addresses.first()?.parse().ok()?,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        hostname: endpoint
            .hostname
            .clone()
            .filter(|hostname| !hostname.is_empty()),
        node: endpoint.node_name.clone(),
    })
}

/// All Services and slices, with the lookups that proxy and DNS make.
#[derive(Debug, Default)]
pub(crate) struct ServiceState {
    services: BTreeMap<Key, Arc<ServiceInfo>>,
    slices: HashMap<Key, Arc<SliceInfo>>,
    by_service: HashMap<Key, BTreeSet<String>>,
    by_cluster_ip: HashMap<IpAddr, Key>,
    by_endpoint: HashMap<IpAddr, BTreeSet<Key>>,
}

impl ServiceState {
    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<ServiceInfo>> {
        self.services.values()
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Arc<ServiceInfo>> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Whether any Service lives in a namespace: a name below one that has none does not exist.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        let start = (namespace.to_owned(), String::new());
        self.services
            .range(start..)
            .next()
            .is_some_and(|((found, _), _)| found == namespace)
    }

    /// The slices of a Service, in the order of their names.
    pub(crate) fn slices(&self, service: &Key) -> impl Iterator<Item = &Arc<SliceInfo>> {
        let namespace = service.0.clone();
        self.by_service
            .get(service)
            .into_iter()
            .flatten()
            .filter_map(move |name| self.slices.get(&(namespace.clone(), name.clone())))
    }

    pub(crate) fn service_of_cluster_ip(&self, address: IpAddr) -> Option<&Arc<ServiceInfo>> {
        self.services.get(self.by_cluster_ip.get(&address)?)
    }

    /// The Services that have an address among their endpoints.
    pub(crate) fn services_of_endpoint(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = &Arc<ServiceInfo>> {
        self.by_endpoint
            .get(&address)
            .into_iter()
            .flatten()
            .filter_map(|key| self.services.get(key))
    }

    /// Puts in a Service; says whether that changed anything.
    pub(crate) fn apply_service(&mut self, service: ServiceInfo) -> bool {
        let key = service.key();
        if self.services.get(&key).is_some_and(|old| **old == service) {
            return false;
        }
        self.delete_service(&key);
        for ip in &service.cluster_ips {
            self.by_cluster_ip.insert(*ip, key.clone());
        }
        self.services.insert(key, Arc::new(service));
        true
    }

    pub(crate) fn delete_service(&mut self, key: &Key) -> bool {
        let Some(old) = self.services.remove(key) else {
            return false;
        };
        for ip in &old.cluster_ips {
            if self.by_cluster_ip.get(ip) == Some(key) {
                self.by_cluster_ip.remove(ip);
            }
        }
        true
    }

    /// Puts in a slice; says whether that changed anything.
    pub(crate) fn apply_slice(&mut self, slice: SliceInfo) -> bool {
        if self
            .slices
            .get(&slice.key)
            .is_some_and(|old| **old == slice)
        {
            return false;
        }
        self.delete_slice(&slice.key);
        self.by_service
            .entry(slice.service.clone())
            .or_default()
            .insert(slice.key.1.clone());
        for endpoint in &slice.endpoints {
            self.by_endpoint
                .entry(endpoint.address)
                .or_default()
                .insert(slice.service.clone());
        }
        self.slices.insert(slice.key.clone(), Arc::new(slice));
        true
    }

    pub(crate) fn delete_slice(&mut self, key: &Key) -> bool {
        let Some(old) = self.slices.remove(key) else {
            return false;
        };
        let mut siblings = BTreeSet::new();
        if let Some(names) = self.by_service.get_mut(&old.service) {
            names.remove(&key.1);
            siblings.clone_from(names);
            if names.is_empty() {
                self.by_service.remove(&old.service);
            }
        }
        for endpoint in &old.endpoints {
            let elsewhere = siblings
                .iter()
                .filter_map(|name| self.slices.get(&(key.0.clone(), name.clone())));
            let mut elsewhere = elsewhere.flat_map(|slice| &slice.endpoints);
            if elsewhere.any(|other| other.address == endpoint.address) {
                continue;
            }
            if let Some(services) = self.by_endpoint.get_mut(&endpoint.address) {
                services.remove(&old.service);
                if services.is_empty() {
                    self.by_endpoint.remove(&endpoint.address);
                }
            }
        }
        true
    }

    /// The keys of all Services, to see after a new list which ones are gone.
    pub(crate) fn service_keys(&self) -> Vec<Key> {
        self.services.keys().cloned().collect()
    }

    /// The keys of all slices.
    pub(crate) fn slice_keys(&self) -> Vec<Key> {
        self.slices.keys().cloned().collect()
    }
}

#[cfg(test)]
#[path = "service_model/tests.rs"]
mod tests;
