//! The pod bridge, the cluster DNS address and the route to Services, set over netlink.
//!
//! [`Plan`] decides names and addresses and is pure; [`apply`] brings the kernel there and may be repeated.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Error, Handle, LinkBridge, LinkUnspec, RouteMessageBuilder};

use super::{BRIDGE, NetworkConfig, NetworkError, host};

/// What this node's network looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) pod_cidr: Ipv4Net,
    pub(super) cluster_cidr: IpNet,
    pub(super) service_cidr: Ipv4Net,
    pub(super) cluster_dns: Ipv4Addr,
    /// The bridge's address: the pods' gateway.
    pub(super) gateway: Ipv4Addr,
    /// The bridge's own MAC address: fixed, so that it does not change with the pods that come and go.
    pub(super) mac: [u8; 6],
    pub(super) mtu: Option<u32>,
}

impl Plan {
    pub(super) fn new(config: &NetworkConfig) -> Result<Plan, NetworkError> {
        let ipv4 = |net: IpNet| match net {
            IpNet::V4(net) => Ok(net.trunc()),
            IpNet::V6(_) => Err(NetworkError::NotIpv4(net)),
        };
        let pod_cidr = ipv4(config.pod_cidr)?;
        if pod_cidr.prefix_len() > 30 {
            return Err(NetworkError::TooSmall(config.pod_cidr));
        }
        let IpAddr::V4(cluster_dns) = config.cluster_dns else {
            return Err(NetworkError::NotIpv4(IpNet::from(config.cluster_dns)));
        };
        let gateway = Ipv4Addr::from(u32::from(pod_cidr.network()) + 1);
        let [a, b, c, d] = gateway.octets();
        Ok(Plan {
            pod_cidr,
            cluster_cidr: config.cluster_cidr.trunc(),
            service_cidr: ipv4(config.service_cidr)?,
            cluster_dns,
            gateway,
            // 0x0a: locally administered, no multicast.
            mac: [0x0a, 0x58, a, b, c, d],
            mtu: config.mtu,
        })
    }

    /// The MAC address as text.
    pub(super) fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// Names a step for the error.
pub(super) fn step(action: impl Into<String>) -> impl FnOnce(Error) -> NetworkError {
    let action = action.into();
    move |source| NetworkError::Netlink { action, source }
}

pub(super) fn connect() -> Result<Handle, NetworkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| NetworkError::File {
            action: "cannot open",
            path: "netlink socket".into(),
            source,
        })?;
    tokio::spawn(connection);
    Ok(handle)
}

pub(super) async fn link(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, NetworkError> {
    let found = handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await;
    match found {
        Ok(link) => Ok(link),
        Err(Error::NetlinkError(message)) if message.raw_code() == -nix::libc::ENODEV => Ok(None),
        Err(error) => Err(step(format!("look for device {name}"))(error)),
    }
}

/// Brings up the bridge with its addresses and routes; gives the MTU it has, in bytes.
pub(super) async fn apply(plan: &Plan) -> Result<u32, NetworkError> {
    let handle = connect()?;
    let mtu = plan.mtu.unwrap_or_else(host::default_mtu);
    let index = ensure_bridge(&handle, plan, mtu).await?;
    remove_other_addresses(&handle, index, plan).await?;
    let address = |ip: Ipv4Addr, prefix| {
        handle
            .address()
            .add(index, IpAddr::V4(ip), prefix)
            .replace()
            .execute()
    };
    address(plan.gateway, plan.pod_cidr.prefix_len())
        .await
        .map_err(step(format!("give {BRIDGE} the address {}", plan.gateway)))?;
    if !plan.cluster_dns.is_unspecified() {
        add_cluster_dns(&handle, plan).await?;
    }
    let set = LinkUnspec::new_with_index(index).up().build();
    handle
        .link()
        .set(set)
        .execute()
        .await
        .map_err(step(format!("bring up {BRIDGE}")))?;
    // Makes Services reachable from a host without a default route, from an address that pods can answer to.
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(plan.service_cidr.network(), plan.service_cidr.prefix_len())
        .output_interface(index)
        .scope(RouteScope::Link)
        .pref_source(plan.gateway)
        .build();
    let route = handle.route().add(route).replace().execute();
    route
        .await
        .map_err(step(format!("route {} to {BRIDGE}", plan.service_cidr)))?;
    host::configure_device(BRIDGE)?;
    Ok(mtu)
}

/// On the loopback device: the CNI bridge plugin accepts no second address on the bridge, and a dummy device is not in
/// every kernel.
async fn add_cluster_dns(handle: &Handle, plan: &Plan) -> Result<(), NetworkError> {
    let loopback = link(handle, "lo")
        .await?
        .map_or(1, |link| link.header.index);
    let address = handle
        .address()
        .add(loopback, IpAddr::V4(plan.cluster_dns), 32);
    address.replace().execute().await.map_err(step(format!(
        "give lo the cluster DNS address {}",
        plan.cluster_dns
    )))
}

async fn ensure_bridge(handle: &Handle, plan: &Plan, mtu: u32) -> Result<u32, NetworkError> {
    if link(handle, BRIDGE).await?.is_none() {
        let bridge = LinkBridge::new(BRIDGE)
            .address(plan.mac.to_vec())
            .mtu(mtu)
            .build();
        handle
            .link()
            .add(bridge)
            .execute()
            .await
            .map_err(step(format!("create bridge {BRIDGE}")))?;
    }
    let bridge = link(handle, BRIDGE)
        .await?
        .ok_or_else(|| step(format!("find {BRIDGE}"))(Error::RequestFailed))?;
    let index = bridge.header.index;
    let has_mac = bridge.attributes.iter().any(
        |attribute| matches!(attribute, LinkAttribute::Address(address) if address.as_slice() == plan.mac),
    );
    if !has_mac {
        let set = LinkUnspec::new_with_index(index)
            .address(plan.mac.to_vec())
            .build();
        handle
            .link()
            .set(set)
            .execute()
            .await
            .map_err(step(format!("set the MAC address of {BRIDGE}")))?;
    }
    Ok(index)
}

/// An address left from another podCIDR would stop the CNI plugin.
async fn remove_other_addresses(
    handle: &Handle,
    index: u32,
    plan: &Plan,
) -> Result<(), NetworkError> {
    use rtnetlink::packet_route::AddressFamily;
    use rtnetlink::packet_route::address::AddressAttribute;
    let mut addresses = handle
        .address()
        .get()
        .set_link_index_filter(index)
        .execute();
    while let Some(address) = addresses
        .try_next()
        .await
        .map_err(step(format!("read the addresses of {BRIDGE}")))?
    {
        let ours = address.header.prefix_len == plan.pod_cidr.prefix_len()
            && address
                .attributes
                .contains(&AddressAttribute::Address(IpAddr::V4(plan.gateway)));
        if address.header.family == AddressFamily::Inet && !ours {
            let removal = handle.address().del(address).execute();
            removal
                .await
                .map_err(step(format!("remove an old address of {BRIDGE}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(pod_cidr: &str) -> Result<Plan, NetworkError> {
        Plan::new(&NetworkConfig {
            agent_dir: "/agent".into(),
            pod_cidr: pod_cidr.parse().expect("network"),
            cluster_cidr: "10.42.0.0/16".parse().expect("network"),
            service_cidr: "10.43.0.0/16".parse().expect("network"),
            cluster_dns: "10.43.0.10".parse().expect("address"),
            mtu: None,
        })
    }

    #[test]
    fn gateway_is_the_first_address() {
        let plan = plan("10.42.3.0/24").expect("valid");
        assert_eq!(plan.gateway.to_string(), "10.42.3.1");
        assert_eq!(plan.mac_text(), "0a:58:0a:2a:03:01");
    }

    #[test]
    fn unusable_networks_are_refused() {
        assert!(matches!(plan("fd00::/64"), Err(NetworkError::NotIpv4(_))));
        assert!(matches!(
            plan("10.42.0.0/31"),
            Err(NetworkError::TooSmall(_))
        ));
    }
}
