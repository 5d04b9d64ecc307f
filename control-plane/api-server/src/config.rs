//! What an API server is given: addresses, certificates, and who answers the questions of security.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use api_client::Backend;

use crate::audit::AuditConfig;
use crate::identity::{Authenticator, Authorizer, Impersonation};
use crate::plugin::{Admission, Extension, ObjectReader, VirtualResource};

/// Facts that requests are answered with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` under which clients reach this server, for `/api`.
    pub advertise_address: SocketAddr,
    /// Services' addresses: network and prefix length.
    pub service_cidr: (IpAddr, u8),
    /// `gitVersion` of `/version`.
    pub version: String,
    /// `gitCommit` of `/version`.
    pub commit: String,
}

/// What security is built from: reading without a request, and calling as a user.
#[derive(Clone)]
pub struct Inside {
    pub reader: Arc<dyn ObjectReader>,
    pub backend: Arc<dyn Backend>,
}

/// Who answers the questions of security, and what stands in for kinds that are not stored.
pub struct Security {
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    pub impersonation: Arc<dyn Impersonation>,
    /// In the order in which they run.
    pub admission: Vec<Arc<dyn Admission>>,
    pub virtual_resources: Vec<Arc<dyn VirtualResource>>,
}

/// Tells what a document says at the moment.
pub type Document = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Everything that an API server is started with.
pub struct Config {
    /// Where to listen; no listener without it.
    pub listen: Option<SocketAddr>,
    /// Server certificates and how clients' are asked for; without it the listener speaks plain HTTP (tests).
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// For connections to nodes' agents; without it `logs` and `exec` are refused.
    pub kubelet_tls: Option<Arc<rustls::ClientConfig>>,
    pub settings: Settings,
    /// File of the root key that secrets in the store are encrypted under; without it they are plain (tests).
    pub encryption_key: Option<PathBuf>,
    /// The audit log; none without it.
    pub audit: Option<AuditConfig>,
    /// Paths that are answered with a document for everybody (OpenID discovery).
    pub documents: Vec<(&'static str, Document)>,
    /// Further paths that are answered by others.
    pub extensions: Vec<Arc<dyn Extension>>,
    /// Builds security on top of the caches.
    pub security: Box<dyn FnOnce(Inside) -> Security + Send>,
}
