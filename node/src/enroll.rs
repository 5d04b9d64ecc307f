//! How a node becomes part of a cluster: it trusts the cluster's CA by the hash in its token, asks for certificates in
//! its own name, and asks again before they expire.
//!
//! Everything goes through the API as with a kubelet's TLS bootstrap. It must not know pods.

mod files;
mod renew;
mod request;
mod trust;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::AuthInfo;
use kube::{Api, Client};

use crate::config::{Identity, Pem};
use crate::known_servers;
use files::Files;
use request::{Purpose, Subject};

pub use trust::{cluster_ca, key_hash, pem_der, pem_key_hash};

/// Where the cluster says how its agents are to be set up.
const SETTINGS: (&str, &str) = ("kube-system", "xebec-config");

/// Who wants to join what.
#[derive(Debug, Clone)]
pub struct EnrollConfig {
    /// `https://HOST:PORT` of any master.
    pub server: String,
    /// SHA-256 of the public key of the cluster's CA (SubjectPublicKeyInfo), and the bootstrap token `ID.SECRET`. Needed
    /// only as long as there are no certificates.
    pub token: Option<EnrollToken>,
    /// The Node object's name.
    pub node_name: String,
    /// The node's InternalIP, which goes into its serving certificate.
    pub node_ip: IpAddr,
    /// Where certificates and keys are kept; made if it is missing.
    pub directory: PathBuf,
}

/// What of a join token an agent uses.
#[derive(Clone)]
pub struct EnrollToken {
    /// SHA-256 of the CA's public key.
    pub ca_hash: [u8; 32],
    /// `ID.SECRET`
    pub bootstrap: String,
}

impl std::fmt::Debug for EnrollToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrollToken(..)")
    }
}

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// No certificates and no token.
    #[error(
        "this node has no certificate of the cluster yet, so it needs a token: --token, from `xebec token create`"
    )]
    NoToken,
    /// The directory holds another node's certificates.
    #[error(
        "{} belongs to the node {found:?}, not {wanted:?}: use that --node-name, or remove the directory and give a token",
        directory.display()
    )]
    OtherNode {
        directory: PathBuf,
        found: String,
        wanted: String,
    },
    /// The server cannot be asked.
    #[error("{server} does not answer: {message}")]
    Unreachable { server: String, message: String },
    /// The server is not of the cluster that the token is for.
    #[error(
        "{server} is not of the cluster that the token belongs to: its CA has the hash {found}, the token says {wanted}; \
         nothing secret was sent"
    )]
    WrongCa {
        server: String,
        found: String,
        wanted: String,
    },
    /// The cluster's CA was changed while the node was off, from the first step to the last: neither trusts the other now.
    #[error(
        "{server} is not of the cluster that this node has joined, or the cluster's CA was changed while this node was off: \
         its CA has the hash {found}; to join anew, with its pods as they are, give a new token: --token, from \
         `xebec token create`"
    )]
    CaChanged { server: String, found: String },
    /// What the server says of itself cannot be used.
    #[error("{server} gives no usable cluster information: {reason}")]
    ClusterInfo { server: String, reason: String },
    /// The API refused.
    #[error("the cluster refuses this node: {0}")]
    Refused(String),
    /// The token is not one of the cluster's.
    #[error(
        "the cluster does not know this token: it is wrong, was deleted or has expired; make a new one with `xebec token create`"
    )]
    UnknownToken,
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A key or certificate could not be made or read.
    #[error("certificate: {0}")]
    Certificate(String),
}

/// How the cluster's agents are set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    pub cluster_cidr: String,
    pub service_cidr: String,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
}

/// A node with certificates of its cluster.
#[derive(Debug, Clone)]
pub struct Enrolled {
    config: EnrollConfig,
    files: Files,
}

/// Takes the certificates that are there, or asks for them with the token: also when they are of a CA that the cluster has
/// no more, and the token is of the one that it has.
///
/// # Errors
/// See [`EnrollError`]; a wrong CA is found before the token is sent.
pub async fn enroll(config: EnrollConfig) -> Result<Enrolled, EnrollError> {
    let files = Files::open(&config.directory)?;
    if let Some(certificate) = files.client_certificate()? {
        let found = certificate.node_name();
        if found != config.node_name {
            return Err(EnrollError::OtherNode {
                directory: config.directory.clone(),
                found,
                wanted: config.node_name.clone(),
            });
        }
        if certificate.not_after <= SystemTime::now() {
            tracing::warn!("the node's client certificate has expired: joining again");
        } else if let Some(found) = trust::other_ca(&config.server, &files.ca_hashes()?).await {
            let server = config.server.clone();
            let token = config.token.as_ref().map(|token| token.ca_hash);
            if !token.is_some_and(|hash| found.contains(&hash)) {
                let found = trust::hex_list(&found);
                return Err(EnrollError::CaChanged { server, found });
            }
            tracing::warn!("the cluster's CA was changed while this node was off: joining again");
        } else {
            return Ok(Enrolled { config, files });
        }
    }
    let token = config.token.as_ref().ok_or(EnrollError::NoToken)?;
    let ca = trust::cluster_ca(&config.server, &token.ca_hash).await?;
    files.write_ca(&ca)?;
    let auth = AuthInfo {
        token: Some(token.bootstrap.clone().into()),
        ..AuthInfo::default()
    };
    let client = files.client(&config.server, auth)?;
    let subject = Subject::of(&config, Purpose::Client);
    let pair = request::certificate(&client, &subject).await?;
    files.write_client(&pair)?;
    if !files.has_serving() {
        files.write_serving(&request::self_signed(&Subject::of(
            &config,
            Purpose::Serving,
        ))?)?;
    }
    tracing::info!(
        node = config.node_name,
        server = config.server,
        "joined the cluster"
    );
    Ok(Enrolled { config, files })
}

impl Enrolled {
    /// The Node object's name.
    pub fn node_name(&self) -> &str {
        &self.config.node_name
    }

    /// The node's InternalIP.
    pub fn node_ip(&self) -> IpAddr {
        self.config.node_ip
    }

    /// The cluster's CA.
    pub fn ca(&self) -> Pem {
        Pem::Path(self.files.ca())
    }

    /// Who the node is to the API.
    pub fn client_identity(&self) -> Identity {
        identity(&self.files.client_pair())
    }

    /// What the node shows to those who connect to it.
    pub fn serving_identity(&self) -> Identity {
        identity(&self.files.serving_pair())
    }

    /// The API servers that are known: that of the configuration, then those that the cluster named last.
    pub fn servers(&self) -> Vec<String> {
        let mut servers = vec![self.config.server.clone()];
        let kept = known_servers::read(&self.servers_file());
        servers.extend(kept.into_iter().filter(|kept| *kept != self.config.server));
        servers
    }

    /// Where the servers that the cluster names are kept.
    pub(crate) fn servers_file(&self) -> PathBuf {
        self.config.directory.join("servers")
    }

    /// Asks the cluster how its agents are set up, at any server that answers.
    ///
    /// # Errors
    /// When no API server answers or the settings are not complete.
    pub async fn settings(&self) -> Result<ClusterSettings, EnrollError> {
        let mut settings = self.settings_of(&self.config.server).await;
        for server in self.servers().iter().skip(1) {
            let Err(EnrollError::Unreachable { server: silent, .. }) = &settings else {
                break;
            };
            tracing::warn!(silent, server, "asking another API server");
            settings = self.settings_of(server).await;
        }
        settings
    }

    async fn settings_of(&self, server: &str) -> Result<ClusterSettings, EnrollError> {
        let (namespace, name) = SETTINGS;
        let api: Api<ConfigMap> = Api::namespaced(self.client(server)?, namespace);
        let settings = api.get(name).await.map_err(|e| failed(server, e))?;
        let data = settings.data.unwrap_or_default();
        let value = |key: &str| {
            data.get(key)
                .cloned()
                .ok_or_else(|| EnrollError::ClusterInfo {
                    server: server.to_owned(),
                    reason: format!("the ConfigMap {namespace}/{name} has no {key}"),
                })
        };
        let dns = value("cluster-dns")?;
        Ok(ClusterSettings {
            cluster_cidr: value("cluster-cidr")?,
            service_cidr: value("service-cidr")?,
            cluster_domain: value("cluster-domain")?,
            cluster_dns: dns.parse().map_err(|_| EnrollError::ClusterInfo {
                server: server.to_owned(),
                reason: format!("cluster-dns is no address: {dns:?}"),
            })?,
        })
    }

    /// A client of that API server as this node.
    fn client(&self, server: &str) -> Result<Client, EnrollError> {
        let (certificate, key) = self.files.client_pair();
        let text = |path: &Path| Some(path.display().to_string());
        let auth = AuthInfo {
            client_certificate: text(&certificate),
            client_key: text(&key),
            ..AuthInfo::default()
        };
        self.files.client(server, auth)
    }
}

fn failed(server: &str, error: kube::Error) -> EnrollError {
    match error {
        kube::Error::Api(status) => EnrollError::Refused(status.message.clone()),
        other => EnrollError::Unreachable {
            server: server.to_owned(),
            message: other.to_string(),
        },
    }
}

fn identity((certificate, key): &(PathBuf, PathBuf)) -> Identity {
    Identity {
        cert: Pem::Path(certificate.clone()),
        key: Pem::Path(key.clone()),
    }
}
