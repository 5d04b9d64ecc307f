//! What the endpoints of the masters look like. Pure: it must not know who writes them.
//!
//! A subset of Endpoints and an EndpointSlice have one list of ports each, so masters on different ports need several. The
//! slice `kubernetes` is always there, as clients of Kubernetes expect it, and keeps its port as long as a master has that;
//! further slices are named after their ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{NAME, NAMESPACE};

const PORT: (&str, &str) = ("https", "TCP");
const SERVICE: (&str, &str) = ("kubernetes.io/service-name", NAME);
/// On the further slices: they go when their port does.
const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "xebec");

pub(super) fn metadata(name: String, labels: &[(&str, &str)]) -> ObjectMeta {
    let labels = labels
        .iter()
        .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
    ObjectMeta {
        name: Some(name),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(labels.collect()),
        ..ObjectMeta::default()
    }
}

/// One subset for each port.
pub(super) fn subsets(masters: &[SocketAddr]) -> Vec<EndpointSubset> {
    let mut by_port = BTreeMap::<u16, Vec<IpAddr>>::new();
    for master in masters {
        by_port.entry(master.port()).or_default().push(master.ip());
    }
    let subset = |(port, addresses): (u16, Vec<IpAddr>)| EndpointSubset {
        addresses: Some(
            addresses
                .iter()
                .map(|ip| EndpointAddress {
                    ip: ip.to_string(),
                    ..EndpointAddress::default()
                })
                .collect(),
        ),
        ports: Some(vec![EndpointPort {
            name: Some(PORT.0.to_owned()),
            port: port.into(),
            protocol: Some(PORT.1.to_owned()),
            ..EndpointPort::default()
        }]),
        not_ready_addresses: None,
    };
    by_port.into_iter().map(subset).collect()
}

/// What the masters of one slice share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    ipv6: bool,
    port: u16,
}

impl Group {
    fn of(master: &SocketAddr) -> Self {
        Self {
            ipv6: master.is_ipv6(),
            port: master.port(),
        }
    }

    fn address_type(self) -> &'static str {
        if self.ipv6 { "IPv6" } else { "IPv4" }
    }

    fn is_of(self, slice: &EndpointSlice) -> bool {
        let ports = slice.ports.iter().flatten();
        self.address_type() == slice.address_type
            && ports.map(|port| port.port).eq([Some(self.port.into())])
    }

    fn metadata(self, main: bool) -> ObjectMeta {
        match (main, self.ipv6) {
            (true, _) => metadata(NAME.to_owned(), &[SERVICE]),
            (false, false) => metadata(format!("{NAME}-{}", self.port), &[SERVICE, MANAGED_BY]),
            (false, true) => metadata(format!("{NAME}-ipv6-{}", self.port), &[SERVICE, MANAGED_BY]),
        }
    }

    fn slice(self, main: bool, addresses: &[IpAddr]) -> EndpointSlice {
        let endpoint = |ip: &IpAddr| Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                ..EndpointConditions::default()
            }),
            ..Endpoint::default()
        };
        EndpointSlice {
            metadata: self.metadata(main),
            address_type: self.address_type().to_owned(),
            endpoints: Some(addresses.iter().map(endpoint).collect()),
            ports: Some(vec![SlicePort {
                name: Some(PORT.0.to_owned()),
                port: Some(self.port.into()),
                protocol: Some(PORT.1.to_owned()),
                ..SlicePort::default()
            }]),
        }
    }
}

/// One slice for each port and address family, when these are `held`.
pub(super) fn slices(masters: &[SocketAddr], held: &[EndpointSlice]) -> Vec<EndpointSlice> {
    let mut groups = BTreeMap::<Group, Vec<IpAddr>>::new();
    for master in masters {
        groups
            .entry(Group::of(master))
            .or_default()
            .push(master.ip());
    }
    let first = held
        .iter()
        .find(|slice| slice.metadata.name.as_deref() == Some(NAME));
    let kept = groups
        .keys()
        .find(|group| first.is_some_and(|slice| group.is_of(slice)));
    let main = kept.or_else(|| groups.keys().next()).copied();
    let slice =
        |(group, addresses): (&Group, &Vec<IpAddr>)| group.slice(Some(*group) == main, addresses);
    groups.iter().map(slice).collect()
}

/// The slices among those `held` that stand for no master any more.
pub(super) fn left_over<'a>(
    held: &'a [EndpointSlice],
    wanted: &[EndpointSlice],
) -> Vec<&'a EndpointSlice> {
    let is_ours = |slice: &EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(MANAGED_BY.0))
            .map(String::as_str)
            == Some(MANAGED_BY.1)
    };
    let is_wanted = |slice: &EndpointSlice| {
        let mut names = wanted.iter().map(|wanted| &wanted.metadata.name);
        names.any(|name| *name == slice.metadata.name)
    };
    held.iter()
        .filter(|slice| is_ours(slice) && !is_wanted(slice))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(masters: &str) -> Vec<SocketAddr> {
        let masters = masters.split_whitespace();
        masters
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    fn shown(slices: &[EndpointSlice]) -> String {
        let one = |slice: &EndpointSlice| {
            let endpoints = slice.endpoints.iter().flatten();
            let addresses: Vec<&str> = endpoints
                .flat_map(|e| e.addresses.iter().map(String::as_str))
                .collect();
            let port = slice
                .ports
                .as_ref()
                .and_then(|ports| ports[0].port)
                .expect("a port");
            let name = slice.metadata.name.as_deref().expect("a name");
            format!("{name} :{port} {}", addresses.join(","))
        };
        slices.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_port_has_a_subset() {
        let masters = parsed("10.0.0.1:6443 10.0.0.1:7443 10.0.0.2:6443");
        let shown: Vec<String> = subsets(&masters)
            .iter()
            .map(|subset| {
                let addresses = subset.addresses.iter().flatten();
                let ips: Vec<&str> = addresses.map(|address| address.ip.as_str()).collect();
                let ports = subset.ports.iter().flatten();
                let ports: Vec<i32> = ports.map(|port| port.port).collect();
                format!("{} {ports:?}", ips.join(","))
            })
            .collect();
        assert_eq!(shown, ["10.0.0.1,10.0.0.2 [6443]", "10.0.0.1 [7443]"]);
    }

    #[test]
    fn each_port_has_a_slice_and_one_is_always_there() {
        let mut held = Vec::new();
        let mut check = |masters: &str, expect: &str, left: &str| {
            let wanted = slices(&parsed(masters), &held);
            assert_eq!(shown(&wanted), expect, "{masters}");
            let gone: Vec<EndpointSlice> = left_over(&held, &wanted).into_iter().cloned().collect();
            assert_eq!(shown(&gone), left, "{masters}");
            held = wanted;
        };
        check(
            "10.0.0.1:6443 10.0.0.2:6443",
            "kubernetes :6443 10.0.0.1,10.0.0.2",
            "",
        );
        check(
            "10.0.0.1:6443 10.0.0.1:7443 [fd00::1]:6443",
            "kubernetes :6443 10.0.0.1; kubernetes-7443 :7443 10.0.0.1; kubernetes-ipv6-6443 :6443 fd00::1",
            "",
        );
        // The name passes on when its port is gone, and does not go back when that returns.
        check(
            "10.0.0.1:7443",
            "kubernetes :7443 10.0.0.1",
            "kubernetes-7443 :7443 10.0.0.1; kubernetes-ipv6-6443 :6443 fd00::1",
        );
        check(
            "10.0.0.1:6443 10.0.0.1:7443",
            "kubernetes-6443 :6443 10.0.0.1; kubernetes :7443 10.0.0.1",
            "",
        );
        check(
            "[fd00::1]:7443",
            "kubernetes :7443 fd00::1",
            "kubernetes-6443 :6443 10.0.0.1",
        );
    }
}
