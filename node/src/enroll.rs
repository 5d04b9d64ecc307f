//! How a node becomes part of a cluster: it trusts the cluster's CA by the hash in its token, asks for certificates in
//! its own name, and asks again before they expire.
//!
//! Everything goes through the API as with a kubelet's TLS bootstrap. It must not know pods.

mod files;
mod request;
mod trust;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::AuthInfo;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::{Identity, Pem};
use files::Files;
use request::{Purpose, Subject};

pub use trust::{cluster_ca, key_hash, pem_der, pem_key_hash};

/// The first wait after a request that failed; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest wait after a request that failed.
const LAST_RETRY: Duration = Duration::from_secs(120);
/// The part of a certificate's lifetime after which the next one is asked for: 70 to 90 percent, as the kubelet.
const RENEW_AFTER_PERCENT: std::ops::Range<u32> = 70..90;
/// Where the cluster says how its agents are to be set up.
const SETTINGS: (&str, &str) = ("kube-system", "xebec-config");
/// What there says which CAs to trust, PEM; the one that signs comes first.
const CA_SETTING: &str = "cluster-ca";

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

/// Takes the certificates that are there, or asks for them with the token.
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
        if certificate.not_after > SystemTime::now() {
            return Ok(Enrolled { config, files });
        }
        tracing::warn!("the node's client certificate has expired: joining again");
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

    /// Asks the cluster how its agents are set up.
    ///
    /// # Errors
    /// When the API does not answer or the settings are not complete.
    pub async fn settings(&self) -> Result<ClusterSettings, EnrollError> {
        let (namespace, name) = SETTINGS;
        let api: Api<ConfigMap> = Api::namespaced(self.client()?, namespace);
        let settings = api.get(name).await.map_err(|e| self.failed(e))?;
        let data = settings.data.unwrap_or_default();
        let value = |key: &str| {
            data.get(key)
                .cloned()
                .ok_or_else(|| EnrollError::ClusterInfo {
                    server: self.config.server.clone(),
                    reason: format!("the ConfigMap {namespace}/{name} has no {key}"),
                })
        };
        let dns = value("cluster-dns")?;
        Ok(ClusterSettings {
            cluster_cidr: value("cluster-cidr")?,
            service_cidr: value("service-cidr")?,
            cluster_domain: value("cluster-domain")?,
            cluster_dns: dns.parse().map_err(|_| EnrollError::ClusterInfo {
                server: self.config.server.clone(),
                reason: format!("cluster-dns is no address: {dns:?}"),
            })?,
        })
    }

    /// Asks for the next certificates in time, until `stop`. The files are replaced; whoever reads them again has the new ones.
    pub async fn keep_renewed(self, stop: CancellationToken) {
        let changed = Notify::new();
        let all = async {
            tokio::join!(
                self.keep_one(Purpose::Client, &changed),
                self.keep_one(Purpose::Serving, &changed),
                self.follow_ca(&changed),
            )
        };
        tokio::select! {
            _ = all => {}
            () = stop.cancelled() => {}
        }
    }

    /// Keeps the file of the CA as the cluster tells it, and wakes the renewals when it has changed.
    async fn follow_ca(&self, changed: &Notify) {
        let (namespace, name) = SETTINGS;
        loop {
            let followed = async {
                let api: Api<ConfigMap> = Api::namespaced(self.client()?, namespace);
                let mut settings = std::pin::pin!(watch_object(api, name));
                while let Some(settings) = settings.next().await {
                    let settings = settings.map_err(|e| EnrollError::Refused(e.to_string()))?;
                    let data = settings
                        .and_then(|settings| settings.data)
                        .unwrap_or_default();
                    if let Some(ca) = data.get(CA_SETTING)
                        && self.files.replace_ca(ca)?
                    {
                        tracing::info!("the cluster's CA has changed");
                        changed.notify_waiters();
                    }
                }
                Ok::<(), EnrollError>(())
            };
            if let Err(error) = followed.await {
                tracing::debug!(%error, "the cluster's CA is followed anew");
            }
            tokio::time::sleep(LAST_RETRY).await;
        }
    }

    async fn keep_one(&self, purpose: Purpose, changed: &Notify) {
        let mut retry = FIRST_RETRY;
        loop {
            let due = self.due(purpose, SystemTime::now());
            tokio::select! {
                () = tokio::time::sleep(due) => {}
                () = changed.notified() => continue,
            }
            match self.renew(purpose).await {
                Ok(()) => {
                    tracing::info!(?purpose, "the node has a new certificate");
                    // Whoever signs may not have the new CA yet.
                    if self.due(purpose, SystemTime::now()).is_zero() {
                        tokio::time::sleep(retry).await;
                        retry = (retry * 2).min(LAST_RETRY);
                    } else {
                        retry = FIRST_RETRY;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, ?purpose, retry_in = ?retry, "no new certificate");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// How long until the certificate is to be replaced; at once if it cannot be read, or is not of the cluster's CA.
    fn due(&self, purpose: Purpose, now: SystemTime) -> Duration {
        let certificate = match purpose {
            Purpose::Client => self.files.client_certificate(),
            Purpose::Serving => self.files.serving_certificate(),
        };
        let Ok(Some(certificate)) = certificate else {
            return Duration::ZERO;
        };
        if let Ok(Some(ca)) = self.files.ca_certificate()
            && certificate.is_of_another(&ca)
        {
            return Duration::ZERO;
        }
        if certificate.self_signed || !certificate.is_for(&self.config, purpose) {
            return Duration::ZERO;
        }
        let lifetime = certificate
            .not_after
            .duration_since(certificate.not_before)
            .unwrap_or_default();
        let percent = rand::Rng::random_range(&mut rand::rng(), RENEW_AFTER_PERCENT);
        let at = certificate.not_before + lifetime * percent / 100;
        at.duration_since(now).unwrap_or_default()
    }

    async fn renew(&self, purpose: Purpose) -> Result<(), EnrollError> {
        let subject = Subject::of(&self.config, purpose);
        let pair = request::certificate(&self.client()?, &subject).await?;
        match purpose {
            Purpose::Client => self.files.write_client(&pair),
            Purpose::Serving => self.files.write_serving(&pair),
        }
    }

    /// A client of the API as this node.
    fn client(&self) -> Result<Client, EnrollError> {
        let (certificate, key) = self.files.client_pair();
        let text = |path: &Path| Some(path.display().to_string());
        let auth = AuthInfo {
            client_certificate: text(&certificate),
            client_key: text(&key),
            ..AuthInfo::default()
        };
        self.files.client(&self.config.server, auth)
    }

    fn failed(&self, error: kube::Error) -> EnrollError {
        match error {
            kube::Error::Api(status) => EnrollError::Refused(status.message.clone()),
            other => EnrollError::Unreachable {
                server: self.config.server.clone(),
                message: other.to_string(),
            },
        }
    }
}

fn identity((certificate, key): &(PathBuf, PathBuf)) -> Identity {
    Identity {
        cert: Pem::Path(certificate.clone()),
        key: Pem::Path(key.clone()),
    }
}
