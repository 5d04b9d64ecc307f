//! What a control plane is started with. Filled by the binary from flags; nothing here reads flags or the environment.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use api_server::{AuditConfig, DefaultTolerations};

/// Settings of a control plane.
#[derive(Clone, Debug)]
pub struct ControlPlaneConfig {
    /// `DATA_DIR/server`: certificates and the admin kubeconfig.
    pub directory: PathBuf,
    /// Where the API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address that others reach this master at.
    pub advertise_address: IpAddr,
    /// The name of this machine's node, for its certificates.
    pub node_name: String,
    /// Addresses of pods.
    pub cluster_cidr: String,
    /// Addresses of Services; the first is the API's own.
    pub service_cidr: String,
    /// Address of the Service `kube-system/kube-dns`.
    pub cluster_dns: IpAddr,
    /// Domain of Services' names.
    pub cluster_domain: String,
    /// Further names and addresses in the API's certificate.
    pub tls_sans: Vec<String>,
    /// The audit log; none without it.
    pub audit: Option<AuditConfig>,
    /// A second place for the admin kubeconfig.
    pub write_kubeconfig: Option<PathBuf>,
    /// How long a node may be silent before it counts as unreachable.
    pub node_monitor_grace_period: Duration,
    /// How long pods stay on a node that is lost.
    pub default_tolerations: DefaultTolerations,
    /// `gitVersion` of `/version`.
    pub version: String,
}
