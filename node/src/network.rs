//! The pod network of this node: bridge, addresses, CNI configuration, masquerade and routes.
//!
//! Also here is [`ServiceCache`], the one compact copy of Services and EndpointSlices that the service proxy and the
//! cluster DNS share. It must not know containers or how pods are run. Why pods hang on a bridge whose traffic is
//! routed all the same is told in `docs/adr/0020-pod-network.md`.

mod bridge;
mod cni;
mod conntrack;
mod host;
mod nft;
mod node_routes;
mod rules;
mod service_cache;
mod service_model;
mod table_watch;
#[cfg(test)]
pub(crate) mod testbed;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub(crate) use conntrack::forget_udp_flows;
pub(crate) use host::check_tools;
use ipnet::IpNet;
#[cfg(test)]
pub(crate) use nft::exists as table_exists;
pub(crate) use nft::{apply as apply_nft, truncate};
pub use node_routes::follow_nodes;
pub use service_cache::ServiceCache;
pub use service_model::Protocol;
#[cfg(test)]
pub(crate) use service_model::SliceInfo;
pub(crate) use service_model::{Endpoint, ServiceInfo, ServicePort, ServiceState};
pub(crate) use table_watch::TableWatch;
use tokio_util::sync::CancellationToken;

/// The name of the bridge that pods hang on.
pub const BRIDGE: &str = "xebec0";

/// The network as the node and the cluster define it.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// `DATA_DIR/agent`: containerd reads its CNI configuration from `etc/cni/net.d` below it.
    pub agent_dir: PathBuf,
    /// `Node.spec.podCIDR`: the addresses of this node's pods.
    pub pod_cidr: IpNet,
    /// The addresses of all pods: traffic inside is never masqueraded.
    pub cluster_cidr: IpNet,
    /// The addresses of Services.
    pub service_cidr: IpNet,
    /// The address of the cluster DNS, which every node carries itself.
    pub cluster_dns: IpAddr,
    /// Bytes; `None` takes the MTU of the default route's device.
    pub mtu: Option<u32>,
}

/// The directory of CNI configuration files, below `DATA_DIR/agent`.
pub(crate) fn cni_conf_dir(agent_dir: &Path) -> PathBuf {
    agent_dir.join("etc/cni/net.d")
}

/// Why the node's network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A program is not installed; the text names the package and the command that installs it.
    #[error("{program} is not installed: install it with `apt-get install {package}`")]
    NotInstalled {
        /// The program looked for.
        program: &'static str,
        /// The Debian and Ubuntu package that has it.
        package: &'static str,
    },
    /// Only IPv4 pod networks are supported so far.
    #[error("pod network {0} is not IPv4: only IPv4 pod networks are supported so far")]
    NotIpv4(IpNet),
    /// A pod network must hold a gateway and at least one pod.
    #[error("pod network {0} is too small: a /30 or larger is needed")]
    TooSmall(IpNet),
    /// The kernel refused a change over netlink.
    #[error("cannot {action}: {source}")]
    Netlink {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// `nft` refused a ruleset.
    #[error("nft refused the {table} ruleset: {reason}")]
    Nft {
        /// The table that was to be changed.
        table: &'static str,
        /// What `nft` said, shortened.
        reason: String,
    },
    /// A file, socket or kernel setting could not be read or written.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// Sets up bridge, addresses, kernel settings, masquerade and the CNI configuration. May be called again at any time.
///
/// The CNI file comes last: with it containerd reports the network ready.
pub async fn configure(config: &NetworkConfig) -> Result<(), NetworkError> {
    host::check_tools()?;
    let plan = bridge::Plan::new(config)?;
    host::configure_kernel()?;
    let mtu = bridge::apply(&plan).await?;
    rules::apply(&plan).await?;
    cni::write(&plan, &config.agent_dir, mtu)
}

/// Puts the node's rules back whenever somebody flushes the ruleset, until `shutdown`.
pub async fn keep_rules(
    config: NetworkConfig,
    shutdown: CancellationToken,
) -> Result<(), NetworkError> {
    let plan = bridge::Plan::new(&config)?;
    let mut watch = TableWatch::new().map_err(|source| NetworkError::File {
        action: "cannot open",
        path: "netlink socket".into(),
        source,
    })?;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = watch.gone(rules::WATCHED_TABLE) => {}
        }
        tracing::warn!("the pod network's rules were deleted; putting them back");
        rules::apply(&plan).await?;
    }
}
