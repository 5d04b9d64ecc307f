//! The VXLAN device that leads to nodes behind a router.
//!
//! Nothing is learned from packets: a peer's MAC address follows from the network of its pods, and the forwarding entry says
//! at which node's address it is. The device speaks the port that Linux gives VXLAN by itself. It must not know routes.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::{Error, Handle, LinkUnspec, LinkVxlan};

use crate::network::NetworkError;
use crate::network::bridge::{link, step};
use crate::network::host;

/// The name of the device.
const DEVICE: &str = "xebec-vxlan";
/// Which virtual network the packets belong to.
const VNI: u32 = 88;
/// The UDP port that all nodes listen on.
const PORT: u16 = 8472;
/// What VXLAN puts around a packet, in bytes: IPv4, UDP, VXLAN and Ethernet headers.
const OVERHEAD: u32 = 20 + 8 + 8 + 14;

/// The tunnel's address at the node whose pods have this network: its first, which no pod gets.
pub(super) fn endpoint(pod_cidr: Ipv4Net) -> Ipv4Addr {
    pod_cidr.network()
}

/// The tunnel's MAC address at the node whose pods have this network.
fn mac(pod_cidr: Ipv4Net) -> [u8; 6] {
    let [a, b, c, d] = endpoint(pod_cidr).octets();
    // 0x0e: locally administered, no multicast, and not what the bridges have.
    [0x0e, 0x58, a, b, c, d]
}

/// The device, as long as it is there.
pub(super) struct Tunnel {
    index: u32,
}

impl Tunnel {
    /// Makes the device of the node whose pods have the network `own`, or takes the one that is there.
    pub(super) async fn ensure(handle: &Handle, own: Ipv4Net) -> Result<Tunnel, NetworkError> {
        if link(handle, DEVICE).await?.is_none() {
            let device = LinkVxlan::new(DEVICE, VNI)
                .port(PORT)
                .learning(false)
                .mtu(host::default_mtu().saturating_sub(OVERHEAD))
                .build();
            let made = handle.link().add(device).execute().await;
            made.map_err(step(format!("create the device {DEVICE}")))?;
        }
        let found = link(handle, DEVICE).await?;
        let index = found
            .ok_or_else(|| step(format!("find {DEVICE}"))(Error::RequestFailed))?
            .header
            .index;
        let up = LinkUnspec::new_with_index(index)
            .address(mac(own).to_vec())
            .up()
            .build();
        let brought = handle.link().set(up).execute().await;
        brought.map_err(step(format!("bring up {DEVICE}")))?;
        let address = handle
            .address()
            .add(index, IpAddr::V4(endpoint(own)), 32)
            .replace();
        let given = address.execute().await;
        given.map_err(step(format!("give {DEVICE} the address {}", endpoint(own))))?;
        Ok(Tunnel { index })
    }

    /// The device's index in this network namespace.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Says where the tunnel's end for this network of pods is.
    pub(super) async fn add_peer(
        &self,
        handle: &Handle,
        pod_cidr: Ipv4Net,
        node: Ipv4Addr,
    ) -> Result<(), Error> {
        let forwarding = handle
            .neighbours()
            .add_bridge(self.index, &mac(pod_cidr))
            .flags(NeighbourFlags::Own)
            .destination(IpAddr::V4(node));
        forwarding.replace().execute().await?;
        let address = handle
            .neighbours()
            .add(self.index, IpAddr::V4(endpoint(pod_cidr)))
            .link_layer_address(&mac(pod_cidr))
            .state(NeighbourState::Permanent);
        address.replace().execute().await
    }

    /// Forgets where the tunnel's end for this network of pods is.
    pub(super) async fn remove_peer(
        &self,
        handle: &Handle,
        pod_cidr: Ipv4Net,
    ) -> Result<(), Error> {
        let neighbours = handle.neighbours();
        let mut address = neighbours.add(self.index, IpAddr::V4(endpoint(pod_cidr)));
        let mut forwarding = neighbours
            .add_bridge(self.index, &mac(pod_cidr))
            .flags(NeighbourFlags::Own);
        let address = address.message_mut().clone();
        let forwarding = forwarding.message_mut().clone();
        neighbours.del(address).execute().await?;
        neighbours.del(forwarding).execute().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_follow_from_the_network_of_pods() {
        let network: Ipv4Net = "10.42.3.0/24".parse().expect("a network");
        assert_eq!(endpoint(network).to_string(), "10.42.3.0");
        assert_eq!(mac(network), [0x0e, 0x58, 10, 42, 3, 0]);
    }
}
