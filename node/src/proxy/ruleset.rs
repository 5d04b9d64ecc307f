//! The rules for all Services and host ports: a pure function into a [`Ruleset`].
//!
//! One map leads from address, protocol and port to the chain of a service port, so that the cost of a packet does not
//! grow with the number of Services. It must not know how rules reach the kernel.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use sha2::{Digest, Sha256};

use super::plan::{PortEndpoints, UdpFrontends, endpoints, ipv4};
use super::text::Ruleset;
use super::{HostPort, ProxyConfig};
use crate::network::{ServiceInfo, ServicePort, ServiceState};

/// The table that belongs to the proxy alone.
pub(super) const TABLE: &str = "ip xebec";
/// The bit of the packet mark that asks for masquerading; the one that kube-proxy uses too.
const MASQUERADE_MARK: &str = "0x4000";
/// The longest chain name in bytes; a hash in it keeps names apart that are cut.
const MAX_NAME_BYTES: usize = 100;
/// How many digits of a hash a name carries.
const HASH_DIGITS: usize = 10;

/// Everything that the kernel is told, and what connection tracking is checked against.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Desired {
    pub(super) ruleset: Ruleset,
    pub(super) udp: UdpFrontends,
}

/// Computes the rules. The same input gives the same text.
pub(super) fn build(
    state: &ServiceState,
    config: &ProxyConfig,
    host_ports: &[HostPort],
) -> Desired {
    let mut builder = Builder {
        config,
        desired: Desired::default(),
        hairpins: BTreeSet::new(),
    };
    builder.base();
    for service in state.services() {
        if !service.proxied || service.cluster_ips.contains(&config.cluster_dns) {
            continue;
        }
        for port in &service.ports {
            let endpoints = endpoints(state, service, port, &config.node_name);
            builder.port(service, port, &endpoints);
        }
    }
    for host_port in host_ports {
        builder.host_port(host_port);
    }
    for ip in std::mem::take(&mut builder.hairpins) {
        builder
            .desired
            .ruleset
            .element("hairpins", format!("{ip} . {ip}"), String::new());
    }
    builder.desired
}

struct Builder<'a> {
    config: &'a ProxyConfig,
    desired: Desired,
    /// Local endpoints: each may reach itself through a Service.
    hairpins: BTreeSet<Ipv4Addr>,
}

fn rules<const N: usize>(rules: [String; N]) -> Vec<String> {
    rules.into()
}

impl Builder<'_> {
    /// Sets, hooks and the chains that do not depend on any Service.
    fn base(&mut self) {
        self.sets();
        self.translation();
        self.refusal();
    }

    fn sets(&mut self) {
        let set = &mut self.desired.ruleset;
        set.set(
            "map",
            "service-ips",
            "type ipv4_addr . inet_proto . inet_service : verdict;",
        );
        set.set(
            "map",
            "service-node-ports",
            "type inet_proto . inet_service : verdict;",
        );
        set.set(
            "map",
            "host-ports",
            "type inet_proto . inet_service : verdict;",
        );
        set.set(
            "set",
            "no-endpoint-ips",
            "type ipv4_addr . inet_proto . inet_service;",
        );
        set.set(
            "set",
            "no-endpoint-node-ports",
            "type inet_proto . inet_service;",
        );
        set.set("set", "hairpins", "type ipv4_addr . ipv4_addr;");
    }

    /// Where packets to Services get their endpoints, and where some get another source.
    fn translation(&mut self) {
        let ProxyConfig {
            cluster_cidr,
            service_cidr,
            ..
        } = self.config;
        let set = &mut self.desired.ruleset;
        set.fixed_chain(
            "mark-masquerade",
            rules([format!("meta mark set meta mark or {MASQUERADE_MARK}")]),
        );
        set.fixed_chain(
            "services",
            rules([
                // From outside to a cluster IP: the answer must come back through this node.
                format!("ip saddr != {cluster_cidr} ip daddr {service_cidr} jump mark-masquerade"),
                "ip daddr . meta l4proto . th dport vmap @service-ips".to_owned(),
                "fib daddr type local meta l4proto . th dport vmap @service-node-ports".to_owned(),
                "fib daddr type local meta l4proto . th dport vmap @host-ports".to_owned(),
            ]),
        );
        let services = || rules(["jump services".to_owned()]);
        set.hook(
            "nat-prerouting",
            "type nat hook prerouting priority dstnat; policy accept;",
            services(),
        );
        set.hook(
            "nat-output",
            "type nat hook output priority -100; policy accept;",
            services(),
        );
        set.hook(
            "nat-postrouting",
            "type nat hook postrouting priority srcnat - 5; policy accept;",
            rules([
                format!(
                    "meta mark & {MASQUERADE_MARK} == {MASQUERADE_MARK} meta mark set meta mark xor {MASQUERADE_MARK} \
                     masquerade fully-random"
                ),
                "ct status dnat ip saddr . ip daddr @hairpins masquerade fully-random".to_owned(),
                // A client on the host's loopback network: its address means nothing elsewhere.
                "ct status dnat oifname != \"lo\" ip saddr 127.0.0.0/8 masquerade fully-random".to_owned(),
            ]),
        );
    }

    /// Where packets to Services without endpoints end.
    fn refusal(&mut self) {
        let ProxyConfig {
            service_cidr,
            cluster_dns,
            ..
        } = self.config;
        let set = &mut self.desired.ruleset;
        set.fixed_chain(
            "refuse",
            // A reset says the same as port unreachable to a TCP client, but is not subject to the ICMP rate limit.
            rules([
                "meta l4proto tcp reject with tcp reset".to_owned(),
                "reject with icmp type port-unreachable".to_owned(),
            ]),
        );
        set.fixed_chain(
            "no-endpoints",
            rules([
                "ip daddr . meta l4proto . th dport @no-endpoint-ips goto refuse".to_owned(),
                "fib daddr type local meta l4proto . th dport @no-endpoint-node-ports goto refuse"
                    .to_owned(),
                format!("ip daddr {service_cidr} ip daddr != {cluster_dns} goto refuse"),
            ]),
        );
        for hook in ["input", "forward", "output"] {
            let specification = format!("type filter hook {hook} priority filter; policy accept;");
            set.hook(
                &format!("filter-{hook}"),
                &specification,
                rules(["ct state new jump no-endpoints".to_owned()]),
            );
        }
    }

    fn port(&mut self, service: &ServiceInfo, port: &ServicePort, endpoints: &PortEndpoints) {
        self.desired.udp.add(service, port, endpoints);
        if service.headless {
            return;
        }
        if endpoints.cluster.is_empty() && endpoints.local.is_empty() {
            self.unavailable(service, port);
            return;
        }
        let locals = endpoints.local.iter().map(|address| *address.ip());
        self.hairpins.extend(locals);
        let names = Names::new(service, port);
        let has_external = !service.external_ips.is_empty()
            || !service.load_balancer_ips.is_empty()
            || port.node_port != 0;
        let uses_local = service.internal_local || (has_external && service.external_local);
        let cluster = self.balance(&names, "svc", service, port, &endpoints.cluster);
        let local = if uses_local {
            self.balance(&names, "local", service, port, &endpoints.local)
        } else {
            String::new()
        };
        let internal = if service.internal_local {
            &local
        } else {
            &cluster
        };
        self.lead("service-ips", &service.cluster_ips, port, internal);
        if !has_external {
            return;
        }
        let entry = self.external(&names, service, &cluster, &local);
        self.lead("service-ips", &service.external_ips, port, &entry);
        if !service.load_balancer_ips.is_empty() {
            let guarded = self.source_ranges(&names, service, &entry);
            self.lead("service-ips", &service.load_balancer_ips, port, &guarded);
        }
        self.lead_node_port("service-node-ports", port, &entry);
    }

    /// Without endpoints every address of a Service refuses connections.
    fn unavailable(&mut self, service: &ServiceInfo, port: &ServicePort) {
        let addresses = [
            &service.cluster_ips,
            &service.external_ips,
            &service.load_balancer_ips,
        ];
        for addresses in addresses {
            self.lead("no-endpoint-ips", addresses, port, "");
        }
        self.lead_node_port("no-endpoint-node-ports", port, "");
    }

    /// Puts a port at addresses into a set or map.
    fn lead(&mut self, set: &str, addresses: &[IpAddr], port: &ServicePort, verdict: &str) {
        for ip in ipv4(addresses) {
            let key = format!("{ip} . {} . {}", port.protocol.lowercase(), port.port);
            self.desired.ruleset.element(set, key, verdict.to_owned());
        }
    }

    /// Puts a NodePort, if there is one, into a set or map.
    fn lead_node_port(&mut self, set: &str, port: &ServicePort, verdict: &str) {
        if port.node_port != 0 {
            let key = format!("{} . {}", port.protocol.lowercase(), port.node_port);
            self.desired.ruleset.element(set, key, verdict.to_owned());
        }
    }

    /// A chain that spreads new connections over endpoints; gives the verdict that leads there.
    fn balance(
        &mut self,
        names: &Names,
        prefix: &str,
        service: &ServiceInfo,
        port: &ServicePort,
        endpoints: &[SocketAddrV4],
    ) -> String {
        if endpoints.is_empty() {
            return "drop".to_owned();
        }
        let chain = names.chain(prefix);
        let protocol = port.protocol.lowercase();
        let count = endpoints.len();
        let rules = match service.affinity {
            None => {
                let targets: Vec<String> = endpoints
                    .iter()
                    .enumerate()
                    .map(|(i, a)| format!("{i} : {} . {}", a.ip(), a.port()))
                    .collect();
                let targets = targets.join(", ");
                vec![format!(
                    "meta l4proto {protocol} dnat to numgen random mod {count} map {{ {targets} }}"
                )]
            }
            Some(affinity) => {
                let mut rules = Vec::with_capacity(count + 1);
                let mut targets = Vec::with_capacity(count);
                for (i, address) in endpoints.iter().enumerate() {
                    let (remembered, target) =
                        self.sticky(names, protocol, *address, affinity.timeout_seconds);
                    rules.push(format!("ip saddr @{remembered} goto {target}"));
                    targets.push(format!("{i} : goto {target}"));
                }
                rules.push(format!(
                    "numgen random mod {count} vmap {{ {} }}",
                    targets.join(", ")
                ));
                rules
            }
        };
        let chain = self.desired.ruleset.chain(&chain, rules);
        format!("goto {chain}")
    }

    /// The set of clients that stay with an endpoint, and the chain that leads to it.
    fn sticky(
        &mut self,
        names: &Names,
        protocol: &str,
        address: SocketAddrV4,
        seconds: u32,
    ) -> (String, String) {
        let place = format!("{}/{}", address.ip(), address.port());
        // The timeout is part of the name, since a set's specification cannot be changed.
        let remembered = names.endpoint(&format!("clients{seconds}s"), &place);
        let target = names.endpoint("ep", &place);
        let specification = format!("type ipv4_addr; flags dynamic, timeout; timeout {seconds}s;");
        self.desired.ruleset.set("set", &remembered, &specification);
        let rules = rules([
            format!("update @{remembered} {{ ip saddr }}"),
            format!(
                "meta l4proto {protocol} dnat to {}:{}",
                address.ip(),
                address.port()
            ),
        ]);
        let target = self.desired.ruleset.chain(&target, rules);
        (remembered, target)
    }

    /// The entry for traffic to NodePorts, external addresses and load balancer addresses.
    fn external(
        &mut self,
        names: &Names,
        service: &ServiceInfo,
        cluster: &str,
        local: &str,
    ) -> String {
        let chain = names.chain("ext");
        let cluster_cidr = self.config.cluster_cidr;
        let rules = if service.external_local {
            // Pods and this node itself are no outsiders: they may use every endpoint.
            rules([
                format!("ip saddr {cluster_cidr} {cluster}"),
                "fib saddr type local jump mark-masquerade".to_owned(),
                format!("fib saddr type local {cluster}"),
                local.to_owned(),
            ])
        } else {
            rules(["jump mark-masquerade".to_owned(), cluster.to_owned()])
        };
        let chain = self.desired.ruleset.chain(&chain, rules);
        format!("goto {chain}")
    }

    /// Puts `loadBalancerSourceRanges` before an entry.
    fn source_ranges(&mut self, names: &Names, service: &ServiceInfo, entry: &str) -> String {
        let ranges: Vec<String> = service
            .source_ranges
            .iter()
            .filter(|range| matches!(range.addr(), IpAddr::V4(_)))
            .map(|range| range.trunc().to_string())
            .collect();
        if ranges.is_empty() || ranges.iter().any(|range| range == "0.0.0.0/0") {
            return entry.to_owned();
        }
        let chain = names.chain("lb");
        // One rule per range: the ranges of a set may not overlap.
        let mut rules: Vec<String> = ranges
            .iter()
            .map(|range| format!("ip saddr {range} {entry}"))
            .collect();
        rules.push("drop".to_owned());
        let chain = self.desired.ruleset.chain(&chain, rules);
        format!("goto {chain}")
    }

    fn host_port(&mut self, host_port: &HostPort) {
        let (IpAddr::V4(pod_ip), protocol) = (host_port.pod_ip, host_port.protocol.lowercase())
        else {
            return;
        };
        let chain = format!(
            "host-{protocol}/{}-{pod_ip}/{}",
            host_port.host_port, host_port.container_port
        );
        let rule = format!(
            "meta l4proto {protocol} dnat to {pod_ip}:{}",
            host_port.container_port
        );
        let chain = self.desired.ruleset.chain(&chain, rules([rule]));
        self.hairpins.insert(pod_ip);
        let verdict = format!("goto {chain}");
        match host_port.host_ip {
            Some(IpAddr::V4(ip)) if !ip.is_unspecified() => {
                let key = format!("{ip} . {protocol} . {}", host_port.host_port);
                self.desired.ruleset.element("service-ips", key, verdict);
            }
            Some(IpAddr::V6(ip)) if !ip.is_unspecified() => {}
            _ => {
                let key = format!("{protocol} . {}", host_port.host_port);
                self.desired.ruleset.element("host-ports", key, verdict);
            }
        }
    }
}

/// The names of a service port's chains: readable, unique and short enough.
struct Names {
    hash: String,
    readable: String,
}

impl Names {
    fn new(service: &ServiceInfo, port: &ServicePort) -> Names {
        let ServiceInfo {
            namespace, name, ..
        } = service;
        let readable = format!(
            "{namespace}/{name}/{}/{}",
            port.protocol.lowercase(),
            port.port
        );
        let mut hash = hex::encode(Sha256::digest(&readable));
        hash.truncate(HASH_DIGITS);
        Names { hash, readable }
    }

    fn chain(&self, prefix: &str) -> String {
        cut(format!("{prefix}-{}-{}", self.hash, self.readable))
    }

    fn endpoint(&self, prefix: &str, place: &str) -> String {
        cut(format!("{prefix}-{}-{place}-{}", self.hash, self.readable))
    }
}

fn cut(mut name: String) -> String {
    name.truncate(MAX_NAME_BYTES);
    name
}

#[cfg(test)]
#[path = "ruleset/tests.rs"]
mod tests;
