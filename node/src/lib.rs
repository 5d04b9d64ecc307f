//! The node agent: what a kubelet, kube-proxy and CoreDNS do on a node, in one process that speaks only HTTPS to the API and CRI
//! to the container runtime. It must not know the store or the control plane's code.

mod api;
mod config;
mod container_config;
mod containerd;
mod cri;
mod env;
mod error;
mod expand;
mod fieldref;
mod images;
mod labels;
mod network;
mod pod;
mod quantity;
mod resolv;
mod resources;
mod sandbox_config;
mod tls;

pub use config::{AgentConfig, Identity, NodeTaint, Pem, ProxyMode, Reserve};
pub use error::AgentError;
