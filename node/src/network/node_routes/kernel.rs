//! Routes to other nodes' pods in the kernel's table, over netlink.
//!
//! [`Kernel`] remembers what it put there and changes only what differs. It must not know Node objects.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Error, Handle, RouteMessageBuilder};

use super::tunnel::{Tunnel, endpoint};
use super::{NodeNetwork, Way, Ways};
use crate::network::NetworkError;
use crate::network::bridge::{connect, step};

/// Marks routes as ours in the kernel's table; no routing daemon has this number.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(88);

/// The kernel's routes that are ours.
pub(super) struct Kernel {
    handle: Handle,
    applied: Ways,
}

impl Kernel {
    /// Takes over the routes that a former run left.
    pub(super) async fn open() -> Result<Kernel, NetworkError> {
        let handle = connect()?;
        let applied = existing(&handle).await?;
        Ok(Kernel { handle, applied })
    }

    /// Which of these nodes are reached without a router. One without any route counts as behind a router.
    pub(super) async fn neighbours<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeNetwork>,
    ) -> BTreeSet<Ipv4Addr> {
        let mut found = BTreeSet::new();
        for node in nodes {
            let question = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(node.address, 32)
                .build();
            let answer = self.handle.route().get(question).execute().try_next().await;
            if matches!(&answer, Ok(Some(route)) if gateway(route).is_none()) {
                found.insert(node.address);
            }
        }
        found
    }

    /// Changes what differs. A way that the kernel refuses is tried again when another changes. `own` is the network of
    /// this node's pods, without which there is no tunnel.
    pub(super) async fn bring_to(&mut self, own: Option<Ipv4Net>, wanted: &Ways) {
        let tunnel = self.tunnel(own, wanted).await;
        let gone: Vec<(Ipv4Net, Way)> = self
            .applied
            .iter()
            .filter(|(to, _)| !wanted.contains_key(*to))
            .map(|(to, way)| (*to, *way))
            .collect();
        for (to, way) in gone {
            self.applied.remove(&to);
            match self.remove(to, way, tunnel.as_ref()).await {
                Ok(()) => tracing::info!(%to, "removed the route to a node's pods"),
                Err(error) => tracing::debug!(%to, %error, "a route was gone already"),
            }
        }
        for (to, way) in wanted {
            if self.applied.get(to) == Some(way) {
                continue;
            }
            match self.put(*to, *way, tunnel.as_ref()).await {
                Ok(()) => {
                    self.applied.insert(*to, *way);
                    tracing::info!(%to, ?way, "added the route to a node's pods");
                }
                Err(error) => {
                    tracing::warn!(%to, ?way, %error, "no route to a node's pods");
                }
            }
        }
    }

    /// The tunnel's device, where any way needs or needed it.
    async fn tunnel(&self, own: Option<Ipv4Net>, wanted: &Ways) -> Option<Tunnel> {
        let mut ways = wanted.values().chain(self.applied.values());
        let own = own.filter(|_| ways.any(|way| matches!(way, Way::Tunnel(_))))?;
        let made = Tunnel::ensure(&self.handle, own).await;
        made.inspect_err(|error| tracing::warn!(%error, "no tunnel to nodes behind a router"))
            .ok()
    }

    async fn put(&self, to: Ipv4Net, way: Way, tunnel: Option<&Tunnel>) -> Result<(), Error> {
        if let Way::Tunnel(node) = way {
            let tunnel = tunnel.ok_or(Error::RequestFailed)?;
            tunnel.add_peer(&self.handle, to, node).await?;
        }
        let route = message(to, way, tunnel);
        self.handle.route().add(route).replace().execute().await
    }

    async fn remove(&self, to: Ipv4Net, way: Way, tunnel: Option<&Tunnel>) -> Result<(), Error> {
        let route = message(to, way, tunnel);
        self.handle.route().del(route).execute().await?;
        match (way, tunnel) {
            (Way::Tunnel(_), Some(tunnel)) => tunnel.remove_peer(&self.handle, to).await,
            _ => Ok(()),
        }
    }
}

fn message(to: Ipv4Net, way: Way, tunnel: Option<&Tunnel>) -> RouteMessage {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to.network(), to.prefix_len())
        .protocol(PROTOCOL);
    match (way, tunnel) {
        (Way::Direct(node), _) => route.gateway(node).build(),
        (Way::Tunnel(_), None) => route.gateway(endpoint(to)).build(),
        (Way::Tunnel(_), Some(tunnel)) => route
            .gateway(endpoint(to))
            .output_interface(tunnel.index())
            .onlink()
            .build(),
    }
}

fn gateway(route: &RouteMessage) -> Option<Ipv4Addr> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(*address),
            _ => None,
        })
}

/// The routes that a former run left. Which node a tunnel led to is not in the route: it is put there again.
async fn existing(handle: &Handle) -> Result<Ways, NetworkError> {
    let all = handle
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute();
    let all: Vec<_> = all.try_collect().await.map_err(step("read the routes"))?;
    let way = |route: &RouteMessage| {
        let length = route.header.destination_prefix_length;
        let to = route
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
                _ => None,
            });
        let (to, via) = (Ipv4Net::new(to?, length).ok()?, gateway(route)?);
        match via == endpoint(to) {
            true => Some((to, Way::Tunnel(Ipv4Addr::UNSPECIFIED))),
            false => Some((to, Way::Direct(via))),
        }
    };
    Ok(all
        .iter()
        .filter(|route| route.header.protocol == PROTOCOL)
        .filter_map(way)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::network::testbed::{Namespace, missing};

    /// Bytes each way through the tunnel.
    const LENGTH: usize = 64 * 1024;

    fn ways(all: &[(&str, Way)]) -> Ways {
        all.iter()
            .map(|(to, way)| (to.parse().expect("a network"), *way))
            .collect()
    }

    fn address(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    fn network(pod_cidr: &str, node: &str) -> NodeNetwork {
        NodeNetwork {
            pod_cidr: pod_cidr.parse().expect("a network"),
            address: address(node),
        }
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
        node.ip("route add default via 192.0.2.9");
        let left = node.block_on(|| async {
            let own = Some("10.42.0.0/24".parse().expect("a network"));
            let mut kernel = Kernel::open().await.expect("netlink");
            let seen = [
                network("10.42.1.0/24", "192.0.2.2"),
                network("10.42.9.0/24", "203.0.113.1"),
            ];
            let neighbours = kernel.neighbours(seen.iter()).await;
            assert_eq!(neighbours, BTreeSet::from([address("192.0.2.2")]));
            let both = ways(&[
                ("10.42.1.0/24", Way::Direct(address("192.0.2.2"))),
                ("10.42.9.0/24", Way::Tunnel(address("203.0.113.1"))),
            ]);
            kernel.bring_to(own, &both).await;
            assert_eq!(kernel.applied, both);
            let mut kernel = Kernel::open().await.expect("netlink");
            let unknown = Way::Tunnel(Ipv4Addr::UNSPECIFIED);
            let mut found = both.clone();
            found.insert("10.42.9.0/24".parse().expect("a network"), unknown);
            assert_eq!(kernel.applied, found, "a new run finds what a former left");
            let third = ways(&[("10.42.3.0/24", Way::Direct(address("192.0.2.3")))]);
            kernel.bring_to(own, &third).await;
            let kept = existing(&kernel.handle).await.expect("routes");
            (kept, third)
        });
        assert_eq!(left.0, left.1);
    }

    /// Two nodes with a router between them that knows nothing of pods.
    #[test]
    fn pods_behind_a_router_are_reached_through_the_tunnel() {
        if let Some(reason) = missing(&["ip"]) {
            eprintln!("skipped: {reason}");
            return;
        }
        let (a, b, router) = (Namespace::new(), Namespace::new(), Namespace::new());
        router.plug("to-a", &a);
        router.plug("to-b", &b);
        router.ip("addr add 192.0.2.254/24 dev to-a");
        router.ip("addr add 203.0.113.254/24 dev to-b");
        router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding"));
        let sides = [
            (
                &a,
                "192.0.2.1",
                "192.0.2.254",
                "10.42.0",
                "203.0.113.1",
                "10.42.1",
            ),
            (
                &b,
                "203.0.113.1",
                "203.0.113.254",
                "10.42.1",
                "192.0.2.1",
                "10.42.0",
            ),
        ];
        for (node, own, router, pods, peer, others) in sides {
            node.ip(&format!("addr add {own}/24 dev eth0"));
            node.ip(&format!("route add default via {router}"));
            // Stands for the bridge with its pods.
            node.ip(&format!("addr add {pods}.1/24 dev lo"));
            let own: Ipv4Net = format!("{pods}.0/24").parse().expect("a network");
            let peer = address(peer);
            let to: Ipv4Net = format!("{others}.0/24").parse().expect("a network");
            node.block_on(move || async move {
                let mut kernel = Kernel::open().await.expect("netlink");
                let far = NodeNetwork {
                    pod_cidr: to,
                    address: peer,
                };
                assert!(kernel.neighbours([far].iter()).await.is_empty());
                let tunnel = Ways::from([(to, Way::Tunnel(peer))]);
                kernel.bring_to(Some(own), &tunnel).await;
                assert_eq!(kernel.applied, tunnel);
            });
        }
        // More than one packet each way, filled to the brim.
        let listener = b.run(|| std::net::TcpListener::bind("10.42.1.1:0").expect("an address"));
        let to = listener.local_addr().expect("it listens");
        let echo = std::thread::spawn(move || {
            let (mut stream, from) = listener.accept().expect("a connection");
            let mut bytes = vec![0; LENGTH];
            stream.read_exact(&mut bytes).expect("all of it");
            stream.write_all(&bytes).expect("it goes back");
            from
        });
        let answer = a.block_on(move || async move {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket
                .bind("10.42.0.1:0".parse().expect("an address"))
                .expect("own");
            let mut stream = socket.connect(to).await.expect("through the tunnel");
            stream.write_all(&[7; LENGTH]).await.expect("it is sent");
            let mut answer = vec![0; LENGTH];
            stream.read_exact(&mut answer).await.expect("all of it");
            answer
        });
        assert_eq!(answer, [7; LENGTH]);
        let from = echo.join().expect("no panic");
        assert_eq!(from.ip().to_string(), "10.42.0.1", "pods see who calls");
    }
}
