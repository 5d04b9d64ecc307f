//! The node agent: what a kubelet, kube-proxy and CoreDNS do on a node, in one process that speaks only HTTPS to the API and CRI
//! to the container runtime. It must not know the store or the control plane's code.

mod api;
mod cgroups;
mod config;
mod container_config;
mod containerd;
mod cri;
mod dispatch;
mod dns;
mod enroll;
mod env;
mod error;
mod events;
mod expand;
mod fieldref;
mod grpc_health;
mod healthz;
mod hooks;
mod http_get;
mod images;
mod keyring;
mod known_servers;
mod labels;
mod log_rotation;
mod logs;
mod network;
mod node;
mod objects;
mod pleg;
mod pod;
mod probes;
mod proxy;
mod pull;
mod quantity;
mod references;
mod resolv;
mod resources;
mod runtime;
mod sandbox_config;
mod self_fence;
mod server;
mod shared;
mod tls;
mod volumes;

pub use config::{
    AgentConfig, DEFAULT_HEALTHZ_PORT, DEFAULT_KUBELET_PORT, DEFAULT_MAX_PODS, Identity, NodeTaint,
    Pem, ProxyMode, Reserve,
};
pub use enroll::{
    ClusterSettings, EnrollConfig, EnrollError, EnrollToken, Enrolled, cluster_ca, enroll,
    key_hash, pem_der, pem_key_hash,
};
pub use error::AgentError;
pub use node::EvictionHard;
pub use runtime::run;
