//! What an agent is told at start: one typed struct, filled by the binary from flags and files.
//!
//! It is here so that no other file reads flags, environment or configuration files. It must not know what the values
//! are used for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::node::EvictionHard;

/// Port of the agent's TLS API, as the kubelet's.
pub const DEFAULT_KUBELET_PORT: u16 = 10250;
/// Port of the loopback health endpoint, as the kubelet's.
pub const DEFAULT_HEALTHZ_PORT: u16 = 10248;
/// Pods that a node accepts unless told otherwise, as the kubelet's.
pub const DEFAULT_MAX_PODS: u32 = 110;

/// PEM data, or a file that holds it. A file is read again whenever it is used, so a renewed certificate needs no restart.
#[derive(Clone)]
pub enum Pem {
    /// Read from this path.
    Path(PathBuf),
    /// The text itself.
    Inline(String),
}

impl Pem {
    /// The PEM text.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Pem::Path(path) => std::fs::read(path)
                .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
            Pem::Inline(text) => Ok(text.clone().into_bytes()),
        }
    }
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pem::Path(path) => write!(f, "Path({})", path.display()),
            Pem::Inline(_) => f.write_str("Inline(..)"),
        }
    }
}

/// A certificate chain and its private key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Certificate, then intermediates.
    pub cert: Pem,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: Pem,
}

/// How Service rules reach the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// One `nft` transaction.
    #[default]
    Nftables,
    /// One `iptables-restore`.
    Iptables,
}

/// A taint that the node registers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTaint {
    /// Taint key.
    pub key: String,
    /// Taint value, may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// What is held back from pods: subtracted from capacity to get the node's allocatable.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reserve {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the filesystem that holds `data_dir`.
    pub ephemeral_storage_bytes: u64,
}

/// Everything an agent needs to run.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// API servers, `https://HOST:PORT`, tried in turn; at least one.
    pub servers: Vec<String>,
    /// The cluster's CA, that signs the API servers' certificates.
    pub server_ca: Pem,
    /// Who the agent is to the API (`system:node:NAME` in `system:nodes`).
    pub client_identity: Identity,
    /// The certificate of the listener on `kubelet_port`.
    pub serving_identity: Identity,
    /// The CA of those who may authenticate to that listener by certificate.
    pub client_ca: Pem,
    /// The Node object's name.
    pub node_name: String,
    /// The node's InternalIP; other nodes and the API server reach it there.
    pub node_ip: IpAddr,
    /// `DATA_DIR/agent`: pods' volumes, the runtime's state, image archives.
    pub data_dir: PathBuf,
    /// `unix:///path` of a CRI runtime. None: the agent starts and supervises its own containerd.
    pub container_runtime_endpoint: Option<String>,
    /// TLS listener for the API server.
    pub kubelet_port: u16,
    /// Loopback health listener; 0 turns it off.
    pub healthz_port: u16,
    /// What pods get as nameserver.
    pub cluster_dns: Option<IpAddr>,
    /// DNS suffix of services and pods.
    pub cluster_domain: String,
    /// Addresses of all pods.
    pub cluster_cidr: String,
    /// Addresses of all Services.
    pub service_cidr: String,
    /// Which firewall the service proxy writes.
    pub proxy_mode: ProxyMode,
    /// The most pods that this node accepts.
    pub max_pods: u32,
    /// Further labels that the node registers with.
    pub node_labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub node_taints: Vec<NodeTaint>,
    /// Held back from pods.
    pub reserve: Reserve,
    /// How much must stay free, or else the node reports pressure.
    pub eviction_hard: EvictionHard,
    /// Ends replaceable pods when no master can be reached for as long as the cluster waits before it replaces them.
    pub self_fence: bool,
}

impl AgentConfig {
    /// A configuration with every default, for an agent that joins `server` as `node_name`.
    pub fn new(
        server: impl Into<String>,
        server_ca: Pem,
        client_identity: Identity,
        serving_identity: Identity,
        node_name: impl Into<String>,
        node_ip: IpAddr,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        AgentConfig {
            servers: vec![server.into()],
            client_ca: server_ca.clone(),
            server_ca,
            client_identity,
            serving_identity,
            node_name: node_name.into(),
            node_ip,
            data_dir: data_dir.into(),
            container_runtime_endpoint: None,
            kubelet_port: DEFAULT_KUBELET_PORT,
            healthz_port: DEFAULT_HEALTHZ_PORT,
            cluster_dns: Some(IpAddr::from([10, 43, 0, 10])),
            cluster_domain: "cluster.local".into(),
            cluster_cidr: "10.42.0.0/16".into(),
            service_cidr: "10.43.0.0/16".into(),
            proxy_mode: ProxyMode::default(),
            max_pods: DEFAULT_MAX_PODS,
            node_labels: BTreeMap::new(),
            node_taints: Vec::new(),
            reserve: Reserve::default(),
            eviction_hard: EvictionHard::default(),
            self_fence: false,
        }
    }
}
