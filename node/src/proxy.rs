//! The service proxy: Services and EndpointSlices become one nftables table, changed in atomic transactions.
//!
//! What the rules are is decided by pure functions ([`plan`], [`ruleset`]); this file and [`apply`] are the edge that
//! talks to `nft` and to connection tracking. It must not know how pods are run or how addresses are assigned.

mod apply;
#[cfg(test)]
mod kernel_tests;
mod plan;
mod ruleset;
mod text;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::ProxyMode;
use crate::network::{NetworkError, Protocol, ServiceCache};

/// What the proxy must know of this node and the cluster.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// How rules are put into the kernel.
    pub mode: ProxyMode,
    /// This node's name: endpoints on it are local ones.
    pub node_name: String,
    /// The addresses of all pods: traffic from elsewhere to a cluster IP is masqueraded.
    pub cluster_cidr: IpNet,
    /// The addresses of Services: those that belong to no Service are rejected.
    pub service_cidr: IpNet,
    /// The cluster DNS, answered by the agent itself: it gets no rule.
    pub cluster_dns: IpAddr,
}

/// A port of the node that leads to a pod (`hostPort`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The node's address, or `None` for all of them.
    pub host_ip: Option<IpAddr>,
    /// The port on the node.
    pub host_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The pod's address.
    pub pod_ip: IpAddr,
    /// The port in the pod.
    pub container_port: u16,
}

/// Why the proxy cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// `--proxy-mode iptables` was asked for.
    #[error("proxy mode iptables is not supported yet: use --proxy-mode nftables")]
    Mode,
    /// The network's own error.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Keeps the kernel's rules equal to the cluster's Services until `shutdown`. The rules stay when it ends.
///
/// `host_ports` is what the pods on this node ask for; send a new list whenever it changes. Nothing is touched before
/// Services and EndpointSlices have been listed once, so that a restart does not break what works.
pub async fn run(
    cache: Arc<ServiceCache>,
    config: ProxyConfig,
    host_ports: watch::Receiver<Vec<HostPort>>,
    shutdown: CancellationToken,
) -> Result<(), ProxyError> {
    if config.mode == ProxyMode::Iptables {
        return Err(ProxyError::Mode);
    }
    apply::run(cache, config, host_ports, shutdown).await
}
