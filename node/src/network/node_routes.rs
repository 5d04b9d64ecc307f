//! Routes to the pods of other nodes: each node's podCIDR by way of the node's own address.
//!
//! This needs nodes that reach each other directly, without a router between them. [`routes`] decides and is pure. It
//! must not know pods or Services.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures::{StreamExt, TryStreamExt};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Error, Handle, RouteMessageBuilder};
use tokio_util::sync::CancellationToken;

use super::NetworkError;
use super::bridge::{connect, step};

/// Marks routes as ours in the kernel's table; no routing daemon has this number.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(88);

/// Where another node's pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NodeNetwork {
    pod_cidr: Ipv4Net,
    address: Ipv4Addr,
}

/// The networks of nodes by name.
type Nodes = BTreeMap<String, NodeNetwork>;

/// Keeps a route to every other node's pods until `shutdown`. The routes stay when it ends.
pub async fn follow_nodes(
    client: kube::Client,
    own_name: String,
    shutdown: CancellationToken,
) -> Result<(), NetworkError> {
    let handle = connect()?;
    let stream =
        watcher(kube::Api::<Node>::all(client), watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut nodes = Nodes::new();
    let mut listing = Nodes::new();
    let mut applied = existing(&handle).await?;
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
        let now = routes(&nodes, &own_name);
        if !nodes.is_empty() && wanted.as_ref() != Some(&now) {
            bring_to(&handle, &mut applied, &now).await;
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

/// The routes that this node needs.
fn routes(nodes: &Nodes, own_name: &str) -> BTreeMap<Ipv4Net, Ipv4Addr> {
    let own = nodes.get(own_name);
    nodes
        .iter()
        .filter(|(name, _)| name.as_str() != own_name)
        // Two agents on one machine, as tests run them, share an address: the kernel would refuse the route.
        .filter(|(_, node)| own.is_none_or(|own| own.address != node.address))
        .map(|(_, node)| (node.pod_cidr.trunc(), node.address))
        .collect()
}

/// The routes that a former run left.
async fn existing(handle: &Handle) -> Result<BTreeMap<Ipv4Net, Ipv4Addr>, NetworkError> {
    use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
    let all = handle
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute();
    let all: Vec<_> = all.try_collect().await.map_err(step("read the routes"))?;
    let ours = all
        .into_iter()
        .filter(|route| route.header.protocol == PROTOCOL);
    let network = |route: rtnetlink::packet_route::route::RouteMessage| {
        let length = route.header.destination_prefix_length;
        let (mut to, mut via) = (None, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(*address),
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(*address),
                _ => {}
            }
        }
        Some((Ipv4Net::new(to?, length).ok()?, via?))
    };
    Ok(ours.filter_map(network).collect())
}

/// Changes what differs. A route that the kernel refuses is tried again when another changes.
async fn bring_to(
    handle: &Handle,
    applied: &mut BTreeMap<Ipv4Net, Ipv4Addr>,
    wanted: &BTreeMap<Ipv4Net, Ipv4Addr>,
) {
    let message = |to: &Ipv4Net, via: &Ipv4Addr| {
        RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(*via)
            .protocol(PROTOCOL)
            .build()
    };
    let gone: Vec<_> = applied
        .iter()
        .filter(|(to, _)| !wanted.contains_key(*to))
        .map(|(to, via)| (*to, *via))
        .collect();
    for (to, via) in gone {
        applied.remove(&to);
        match handle.route().del(message(&to, &via)).execute().await {
            Ok(()) => tracing::info!(%to, "removed the route to a node's pods"),
            Err(error) => tracing::debug!(%to, %error, "a route was gone already"),
        }
    }
    for (to, via) in wanted {
        if applied.get(to) == Some(via) {
            continue;
        }
        match handle
            .route()
            .add(message(to, via))
            .replace()
            .execute()
            .await
        {
            Ok(()) => {
                applied.insert(*to, *via);
                tracing::info!(%to, %via, "added the route to a node's pods");
            }
            Err(error) => {
                tracing::warn!(%to, %via, reason = reason(&error), "no route to a node's pods")
            }
        }
    }
}

/// The kernel says "network is unreachable" of a gateway behind a router.
fn reason(error: &Error) -> String {
    match error {
        Error::NetlinkError(message) if message.raw_code() == -nix::libc::ENETUNREACH => {
            "the node is not in this node's own network".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::testbed::{Namespace, missing};

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
    fn other_nodes_get_routes() {
        let three = [
            ("a", "10.42.0.0/24", "192.0.2.1"),
            ("b", "10.42.1.0/24", "192.0.2.2"),
            ("same-machine", "10.42.2.0/24", "192.0.2.1"),
        ];
        let routes = routes(&nodes(&three), "a");
        let texts: Vec<String> = routes
            .iter()
            .map(|(to, via)| format!("{to} via {via}"))
            .collect();
        assert_eq!(texts, ["10.42.1.0/24 via 192.0.2.2"]);
        let mut without = nodes(&three);
        let bare = json!({"metadata": {"name": "b"}});
        note(&mut without, &serde_json::from_value(bare).expect("a Node"));
        assert_eq!(
            without.len(),
            2,
            "a node that lost its network is forgotten"
        );
    }

    #[test]
    fn the_kernel_follows() {
        if let Some(reason) = missing(&["ip"]) {
            eprintln!("skipped: {reason}");
            return;
        }
        let (node, other) = (Namespace::new(), Namespace::new());
        node.plug("uplink", &other);
        node.ip("addr add 192.0.2.1/24 dev uplink");
        let left = node.block_on(|| async {
            let handle = connect().expect("netlink");
            let mut applied = BTreeMap::new();
            let reachable = [
                ("b", "10.42.1.0/24", "192.0.2.2"),
                ("far", "10.42.9.0/24", "203.0.113.1"),
            ];
            bring_to(&handle, &mut applied, &routes(&nodes(&reachable), "a")).await;
            let found = existing(&handle).await.expect("routes");
            assert_eq!(found, applied, "a new run finds what a former one left");
            let mut applied = found;
            bring_to(
                &handle,
                &mut applied,
                &routes(&nodes(&[("c", "10.42.3.0/24", "192.0.2.3")]), "a"),
            )
            .await;
            existing(&handle).await.expect("routes")
        });
        let texts: Vec<String> = left
            .iter()
            .map(|(to, via)| format!("{to} via {via}"))
            .collect();
        assert_eq!(texts, ["10.42.3.0/24 via 192.0.2.3"]);
    }
}
