//! What a name asks for, by its shape alone.
//!
//! Pure. It must not know which Services exist.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

/// The place of a name in the cluster's domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The cluster's domain itself.
    Apex,
    /// `dns-version.ZONE`
    Version,
    /// `ns.dns.ZONE`, the name of this server.
    Server,
    /// `svc.ZONE`, `pod.ZONE`, `dns.ZONE`: they hold names but have no records.
    Empty,
    /// `NAMESPACE.svc.ZONE` or `NAMESPACE.pod.ZONE`
    Namespace(String),
    /// `SERVICE.NAMESPACE.svc.ZONE`
    Service { namespace: String, service: String },
    /// `_PORT._PROTOCOL.SERVICE.NAMESPACE.svc.ZONE`
    Port {
        namespace: String,
        service: String,
        port: String,
        protocol: String,
    },
    /// `HOSTNAME.SERVICE.NAMESPACE.svc.ZONE`
    Endpoint {
        namespace: String,
        service: String,
        hostname: String,
    },
    /// `1-2-3-4.NAMESPACE.pod.ZONE`
    Pod { address: IpAddr },
    /// In the cluster's domain, but nothing that can be.
    Nothing,
    /// A name below `in-addr.arpa` or `ip6.arpa` that stands for one address.
    Reverse(IpAddr),
    /// Another domain.
    Outside,
}

/// Finds the place of a name. `zone` is the cluster's domain.
pub(super) fn place(name: &Name, zone: &Name) -> Place {
    if !zone.zone_of(name) {
        return reverse_address(name).map_or(Place::Outside, Place::Reverse);
    }
    let inside = usize::from(name.num_labels() - zone.num_labels());
    let labels: Vec<String> = name
        .iter()
        .take(inside)
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).rev().collect();
    match labels.as_slice() {
        [] => Place::Apex,
        ["dns-version"] => Place::Version,
        ["dns", "ns"] => Place::Server,
        ["svc" | "pod" | "dns"] => Place::Empty,
        ["svc" | "pod", namespace] => Place::Namespace((*namespace).to_owned()),
        ["svc", namespace, service] => Place::Service {
            namespace: (*namespace).to_owned(),
            service: (*service).to_owned(),
        },
        ["svc", namespace, service, last] => match last.strip_prefix('_') {
            // `_tcp.SERVICE…`: holds the names of ports.
            Some("tcp" | "udp" | "sctp") => Place::Empty,
            Some(_) => Place::Nothing,
            None => Place::Endpoint {
                namespace: (*namespace).to_owned(),
                service: (*service).to_owned(),
                hostname: (*last).to_owned(),
            },
        },
        ["svc", namespace, service, protocol, port] => {
            match (protocol.strip_prefix('_'), port.strip_prefix('_')) {
                (Some(protocol), Some(port)) => Place::Port {
                    namespace: (*namespace).to_owned(),
                    service: (*service).to_owned(),
                    port: port.to_owned(),
                    protocol: protocol.to_owned(),
                },
                _ => Place::Nothing,
            }
        }
        ["pod", _, address] => {
            dashed_address(address).map_or(Place::Nothing, |address| Place::Pod { address })
        }
        _ => Place::Nothing,
    }
}

/// `1-2-3-4` or `2001-db8--1`
pub(super) fn dashed_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.replace('-', ".").parse::<Ipv4Addr>() {
        return Some(IpAddr::V4(address));
    }
    text.replace('-', ":")
        .parse::<Ipv6Addr>()
        .ok()
        .map(IpAddr::V6)
}

/// An address as a label.
pub(super) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn reverse_address(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expect: Place) {
        let zone = Name::from_ascii("cluster.local.").expect("name");
        assert_eq!(
            place(&Name::from_ascii(name).expect("name"), &zone),
            expect,
            "{name}"
        );
    }

    #[test]
    fn names_are_placed() {
        let own = str::to_owned;
        check("cluster.local.", Place::Apex);
        check(
            "Web.Default.SVC.cluster.LOCAL.",
            Place::Service {
                namespace: own("default"),
                service: own("web"),
            },
        );
        check(
            "_http._tcp.web.default.svc.cluster.local.",
            Place::Port {
                namespace: own("default"),
                service: own("web"),
                port: own("http"),
                protocol: own("tcp"),
            },
        );
        check(
            "db-0.db.default.svc.cluster.local.",
            Place::Endpoint {
                namespace: own("default"),
                service: own("db"),
                hostname: own("db-0"),
            },
        );
        check(
            "10-42-0-5.default.pod.cluster.local.",
            Place::Pod {
                address: "10.42.0.5".parse().expect("address"),
            },
        );
        check("nonsense.default.pod.cluster.local.", Place::Nothing);
        check(
            "default.svc.cluster.local.",
            Place::Namespace(own("default")),
        );
        check("svc.cluster.local.", Place::Empty);
        check("web.default.cluster.local.", Place::Nothing);
        check("a.b.c.d.e.svc.cluster.local.", Place::Nothing);
        check("example.org.", Place::Outside);
        check("notcluster.local.", Place::Outside);
        check(
            "1.0.43.10.in-addr.arpa.",
            Place::Reverse("10.43.0.1".parse().expect("address")),
        );
        check("43.10.in-addr.arpa.", Place::Outside);
    }
}
