//! The ways to the pods of other nodes: straight by way of the node's own address where the nodes share a link, through a
//! VXLAN tunnel where a router lies between.
//!
//! [`ways`] decides and is pure; `kernel` and `tunnel` bring the kernel there. It must not know pods or Services.

mod kernel;
mod tunnel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use futures::StreamExt;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio_util::sync::CancellationToken;

use self::kernel::Kernel;
use super::NetworkError;

/// Where another node's pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NodeNetwork {
    pod_cidr: Ipv4Net,
    address: Ipv4Addr,
}

/// The networks of nodes by name.
type Nodes = BTreeMap<String, NodeNetwork>;

/// How packets get to the pods of another node, whose own address this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The node is on a link of this one.
    Direct(Ipv4Addr),
    /// The node is behind a router, which knows nothing of pods.
    Tunnel(Ipv4Addr),
}

/// The ways to networks of pods.
type Ways = BTreeMap<Ipv4Net, Way>;

/// Keeps a way to every other node's pods until `shutdown`. The routes stay when it ends.
pub async fn follow_nodes(
    client: kube::Client,
    own_name: String,
    shutdown: CancellationToken,
) -> Result<(), NetworkError> {
    let mut kernel = Kernel::open().await?;
    let stream =
        watcher(kube::Api::<Node>::all(client), watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut nodes = Nodes::new();
    let mut listing = Nodes::new();
    let mut wanted = None;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            event = stream.next() => event,
        };
        match event {
            None => return Ok(()),
            Some(Ok(Event::Init)) => listing = Nodes::new(),
            Some(Ok(Event::InitApply(node))) => {
                note(&mut listing, &node);
                continue;
            }
            Some(Ok(Event::InitDone)) => nodes = std::mem::take(&mut listing),
            Some(Ok(Event::Apply(node))) => note(&mut nodes, &node),
            Some(Ok(Event::Delete(node))) => {
                nodes.remove(node.metadata.name.as_deref().unwrap_or_default());
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "nodes cannot be watched; trying again");
                continue;
            }
        }
        // Before the first list is complete, routes of a former run are all that is known.
        if nodes.is_empty() {
            continue;
        }
        let neighbours = kernel.neighbours(others(&nodes, &own_name)).await;
        let now = ways(&nodes, &own_name, &neighbours);
        if wanted.as_ref() != Some(&now) {
            let own = nodes.get(&own_name).map(|own| own.pod_cidr);
            kernel.bring_to(own, &now).await;
            wanted = Some(now);
        }
    }
}

/// Remembers a node, or forgets it while it has no network.
fn note(nodes: &mut Nodes, node: &Node) {
    let Some(name) = node.metadata.name.clone() else {
        return;
    };
    match network_of(node) {
        Some(network) => nodes.insert(name, network),
        None => nodes.remove(&name),
    };
}

fn network_of(node: &Node) -> Option<NodeNetwork> {
    let spec = node.spec.as_ref()?;
    let cidrs = spec.pod_cidrs.iter().flatten().chain(spec.pod_cidr.iter());
    let pod_cidr = cidrs
        .filter_map(|cidr| cidr.parse::<Ipv4Net>().ok())
        .next()?;
    let addresses = node.status.as_ref()?.addresses.as_ref()?.iter();
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let address = internal
        .filter_map(|address| address.address.parse().ok())
        .next()?;
    Some(NodeNetwork { pod_cidr, address })
}

/// The networks of the other nodes.
fn others<'a>(nodes: &'a Nodes, own_name: &'a str) -> impl Iterator<Item = &'a NodeNetwork> {
    let own = nodes.get(own_name);
    nodes
        .iter()
        .filter(move |(name, _)| name.as_str() != own_name)
        // Two agents on one machine, as tests run them, share an address: the kernel would refuse the route.
        .filter(move |(_, node)| own.is_none_or(|own| own.address != node.address))
        .map(|(_, node)| node)
}

/// The ways that this node needs; `neighbours` are the addresses that it reaches without a router.
fn ways(nodes: &Nodes, own_name: &str, neighbours: &BTreeSet<Ipv4Addr>) -> Ways {
    let way = |node: &NodeNetwork| match neighbours.contains(&node.address) {
        true => Way::Direct(node.address),
        false => Way::Tunnel(node.address),
    };
    others(nodes, own_name)
        .map(|node| (node.pod_cidr.trunc(), way(node)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes(all: &[(&str, &str, &str)]) -> Nodes {
        let mut nodes = Nodes::new();
        for (name, cidr, address) in all {
            let node = json!({"metadata": {"name": name}, "spec": {"podCIDR": cidr},
                "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]}});
            note(&mut nodes, &serde_json::from_value(node).expect("a Node"));
        }
        nodes
    }

    #[test]
    fn other_nodes_get_ways() {
        let four = [
            ("a", "10.42.0.0/24", "192.0.2.1"),
            ("b", "10.42.1.0/24", "192.0.2.2"),
            ("far", "10.42.3.0/24", "203.0.113.1"),
            ("same-machine", "10.42.2.0/24", "192.0.2.1"),
        ];
        let neighbours = BTreeSet::from(["192.0.2.2".parse().expect("an address")]);
        let ways = ways(&nodes(&four), "a", &neighbours);
        let texts: Vec<String> = ways
            .iter()
            .map(|(to, way)| format!("{to} {way:?}"))
            .collect();
        assert_eq!(
            texts,
            [
                "10.42.1.0/24 Direct(192.0.2.2)",
                "10.42.3.0/24 Tunnel(203.0.113.1)"
            ]
        );
        let mut without = nodes(&four);
        let bare = json!({"metadata": {"name": "b"}});
        note(&mut without, &serde_json::from_value(bare).expect("a Node"));
        assert_eq!(
            without.len(),
            3,
            "a node that lost its network is forgotten"
        );
    }
}
