//! Which endpoints a service port leads to: a pure function of the Service, its slices and this node's name.
//!
//! Ready endpoints are used; when there are none, those that are shutting down but still serve (KEP-1669). It must not
//! know nftables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::network::{Endpoint, Protocol, ServiceInfo, ServicePort, ServiceState};

/// The IPv4 endpoints of one service port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PortEndpoints {
    /// On any node.
    pub(super) cluster: Vec<SocketAddrV4>,
    /// On this node.
    pub(super) local: Vec<SocketAddrV4>,
}

/// Chooses the endpoints of a port. The same input gives the same order.
pub(super) fn endpoints(
    state: &ServiceState,
    service: &ServiceInfo,
    port: &ServicePort,
    node_name: &str,
) -> PortEndpoints {
    let mut found: BTreeMap<SocketAddrV4, &Endpoint> = BTreeMap::new();
    for slice in state.slices(&service.key()) {
        let ports = slice.ports.iter();
        for number in ports
            .filter(|p| p.name == port.name && p.protocol == port.protocol)
            .map(|p| p.port)
        {
            for endpoint in &slice.endpoints {
                if let IpAddr::V4(ip) = endpoint.address {
                    let known = found
                        .entry(SocketAddrV4::new(ip, number))
                        .or_insert(endpoint);
                    // While a pod moves between slices both list it: the better news is the newer one.
                    if endpoint.ready && !known.ready {
                        *known = endpoint;
                    }
                }
            }
        }
    }
    let is_local = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(node_name);
    let all: Vec<(SocketAddrV4, &Endpoint)> = found.into_iter().collect();
    let local: Vec<_> = all
        .iter()
        .filter(|(_, endpoint)| is_local(endpoint))
        .copied()
        .collect();
    PortEndpoints {
        cluster: usable(&all, service),
        local: usable(&local, service),
    }
}

fn usable(candidates: &[(SocketAddrV4, &Endpoint)], service: &ServiceInfo) -> Vec<SocketAddrV4> {
    let pick = |accept: &dyn Fn(&Endpoint) -> bool| -> Vec<SocketAddrV4> {
        candidates
            .iter()
            .filter(|(_, endpoint)| accept(endpoint))
            .map(|(address, _)| *address)
            .collect()
    };
    let ready = pick(&|endpoint| endpoint.ready || service.publish_not_ready);
    if !ready.is_empty() {
        ready
    } else {
        pick(&|endpoint| endpoint.serving && endpoint.terminating)
    }
}

/// The IPv4 addresses among others.
pub(super) fn ipv4(addresses: &[IpAddr]) -> impl Iterator<Item = Ipv4Addr> {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

/// Where UDP clients send to and which endpoints may answer them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UdpFrontends {
    addresses: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    node_ports: BTreeMap<u16, BTreeSet<SocketAddr>>,
}

impl UdpFrontends {
    /// Adds a port of a Service; those of other protocols do not matter.
    pub(super) fn add(
        &mut self,
        service: &ServiceInfo,
        port: &ServicePort,
        endpoints: &PortEndpoints,
    ) {
        if port.protocol != Protocol::Udp {
            return;
        }
        let all: BTreeSet<SocketAddr> = endpoints
            .cluster
            .iter()
            .chain(&endpoints.local)
            .map(|address| (*address).into())
            .collect();
        let addresses = [
            &service.cluster_ips,
            &service.external_ips,
            &service.load_balancer_ips,
        ];
        for ip in addresses.into_iter().flatten() {
            self.addresses
                .insert(SocketAddr::new(*ip, port.port), all.clone());
        }
        if port.node_port != 0 {
            self.node_ports.insert(port.node_port, all);
        }
    }

    /// Whether an endpoint or a frontend that was there before is missing.
    pub(super) fn lost_since(&self, before: &UdpFrontends) -> bool {
        fn lost<K: Ord>(
            before: &BTreeMap<K, BTreeSet<SocketAddr>>,
            now: &BTreeMap<K, BTreeSet<SocketAddr>>,
        ) -> bool {
            before
                .iter()
                .any(|(key, old)| !now.get(key).is_some_and(|new| new.is_superset(old)))
        }
        lost(&before.addresses, &self.addresses) || lost(&before.node_ports, &self.node_ports)
    }

    /// Whether a tracked flow leads to an endpoint that is none any more. `before` names frontends that may be gone.
    pub(super) fn is_stale(
        &self,
        before: &UdpFrontends,
        destination: SocketAddr,
        endpoint: SocketAddr,
    ) -> bool {
        // Not translated: no business of ours.
        if destination == endpoint {
            return false;
        }
        if let Some(allowed) = self.addresses.get(&destination) {
            return !allowed.contains(&endpoint);
        }
        if let Some(old) = before.addresses.get(&destination) {
            return old.contains(&endpoint);
        }
        if let Some(allowed) = self.node_ports.get(&destination.port()) {
            return !allowed.contains(&endpoint);
        }
        before
            .node_ports
            .get(&destination.port())
            .is_some_and(|old| old.contains(&endpoint))
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
