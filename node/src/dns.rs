//! The cluster DNS, answered by the agent on every node.
//!
//! Records follow the Kubernetes DNS specification, version 1.1.0. Questions about other names go to the resolvers
//! of the host. It must not know pods' containers or the proxy's rules.

mod answer;
mod forward;
mod names;
mod records;
mod server;
mod socket;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::network::ServiceCache;

/// Where the cluster DNS listens and what it answers for.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// The address and port, normally the cluster DNS address and port 53. The address may become this node's later
    /// (see [`crate::network::configure`]).
    pub listen: SocketAddr,
    /// The cluster's domain, without a final dot.
    pub cluster_domain: String,
    /// The host's resolvers: the file is read again for each question that is forwarded if it has changed.
    pub resolv_conf: PathBuf,
}

impl DnsConfig {
    /// The usual settings for a cluster DNS address.
    pub fn new(cluster_dns: IpAddr) -> DnsConfig {
        DnsConfig {
            listen: SocketAddr::new(cluster_dns, 53),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: forward::host_resolv_conf(),
        }
    }
}

/// Why the cluster DNS cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The address is not this node's, or another program has the port.
    #[error("cluster DNS cannot listen on {address} ({protocol}): {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The cluster domain is not a domain name.
    #[error("cluster domain {0:?} is not a domain name")]
    Domain(String),
}

/// Answers questions until `shutdown`.
pub async fn run(
    cache: Arc<ServiceCache>,
    config: DnsConfig,
    shutdown: CancellationToken,
) -> Result<(), DnsError> {
    server::run(cache, config, shutdown).await
}
