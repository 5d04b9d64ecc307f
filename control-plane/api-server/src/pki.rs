//! The cluster's certificates and keys, as files under `DATA_DIR/server/tls`: made at the first start, loaded at later
//! ones, issued again when a third of their lifetime is left or when what they must say has changed.
//!
//! One cluster CA signs serving and client certificates (as kubeadm does), a second one the front proxy's. File names are
//! kubeadm's, so that its tools read them. This part knows nothing of requests, users' rights or the store.

mod authority;
mod client_trust;
pub(crate) mod files;
mod kubeconfig;
mod profile;
mod rotation;
mod rotation_status;
mod signer;
mod store_pki;
mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::tokens::{KeyError, TokenKeys};

use authority::Authority;
use profile::Profile;
use store_pki::StorePki;

pub use client_trust::{ClientCertificate, ClientTrust, PeerCertificate};
pub use kubeconfig::{cluster_info, kubeconfig, with_ca};
pub use rotation::{
    CA_RETIRED, ROTATED_FILES, Rotated, RotatedFiles, RotationError, RotationStep, certificates,
    rotate,
};
pub use rotation_status::RotationStatus;
pub use signer::{CertificateUsage, CsrSummary, SignRequest, Signer, parse_csr};
pub use store_pki::StoreTls;

/// What the certificates must say about this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiConfig {
    /// The node's name, also a DNS name of the serving certificate.
    pub node_name: String,
    /// The address that clients are told to use.
    pub advertise_address: IpAddr,
    /// ClusterIP of `default/kubernetes`: the first address of the service CIDR.
    pub service_address: IpAddr,
    /// `cluster.local` unless configured.
    pub cluster_domain: String,
    /// Further names or addresses of the serving certificate.
    pub tls_sans: Vec<String>,
}

/// Why the certificates cannot be made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not usable: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error("cannot issue the certificate {name}: {source}")]
    Issue { name: String, source: rcgen::Error },
    #[error("the certificate request is not valid: {0}")]
    Request(String),
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    TokenKey(#[from] KeyError),
}

/// A certificate and its key in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPairPem {
    pub certificate: String,
    pub key: String,
}

/// The files of a certificate and its key. They are replaced when the certificate is renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPairFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl KeyPairFiles {
    /// What the files hold now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self) -> Result<KeyPairPem, PkiError> {
        Ok(KeyPairPem {
            certificate: files::read(&self.certificate)?,
            key: files::read(&self.key)?,
        })
    }
}

/// What the agent on this machine needs to talk to the API server and to be talked to.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// `CN=system:node:NAME`, `O=system:nodes`.
    pub client: KeyPairFiles,
    pub serving: KeyPairFiles,
    /// The CA that both sides trust.
    pub ca: PathBuf,
}

/// Everything under the TLS directory. Cheap to clone.
#[derive(Clone)]
pub struct Pki(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    config: PkiConfig,
    ca: ArcSwap<Authority>,
    front_proxy_ca: Authority,
    token_keys: TokenKeys,
    store: StorePki,
    serving: tls::LiveCertificate,
    kubelet_client: tls::LiveCertificate,
    client_trust: ClientTrust,
    kubelet_roots: tls::LiveRoots,
    /// How often the files were taken over anew.
    reloads: watch::Sender<u64>,
    /// What was made on request and is renewed with the rest. Locked while certificates are issued: one at a time, so that
    /// a certificate always meets its key.
    issued: Mutex<Issued>,
}

#[derive(Default)]
struct Issued {
    /// This machine's node: client and serving certificate.
    node: Option<[Profile; 2]>,
    /// The administrator's kubeconfigs, with the server's URL.
    kubeconfigs: Vec<(PathBuf, String)>,
}

impl Pki {
    /// Loads what is in `dir`, makes what is missing.
    pub fn load_or_create(dir: &Path, config: &PkiConfig) -> Result<Self, PkiError> {
        files::create_dir(dir)?;
        let ca = Authority::load_or_create(dir, "ca", "kubernetes")?;
        let front_proxy_ca = Authority::load_or_create(dir, "front-proxy-ca", "front-proxy-ca")?;
        files::key_or_create(dir, "sa")?;
        let token_keys = TokenKeys::from_pems(&read_token_keys(dir)?)?;
        let serving = ca.ensure(dir, &Profile::apiserver(config), SystemTime::now())?;
        let kubelet_client = ca.ensure(dir, &Profile::kubelet_client(), SystemTime::now())?;
        let pki = Self(Arc::new(Shared {
            dir: dir.to_owned(),
            config: config.clone(),
            client_trust: ClientTrust::new(ca.trusted(), front_proxy_ca.trusted())?,
            kubelet_roots: tls::LiveRoots::new(ca.trusted())?,
            reloads: watch::Sender::new(0),
            ca: ArcSwap::from_pointee(ca),
            front_proxy_ca,
            token_keys,
            store: StorePki::load_or_create(dir, config)?,
            serving: tls::LiveCertificate::new(&serving)?,
            kubelet_client: tls::LiveCertificate::new(&kubelet_client)?,
            issued: Mutex::default(),
        }));
        pki.renew(SystemTime::now())?;
        Ok(pki)
    }

    /// Issues again what will not last. Answers when this should be called next.
    pub fn renew(&self, now: SystemTime) -> Result<SystemTime, PkiError> {
        let Shared {
            dir,
            config,
            ca,
            front_proxy_ca,
            store,
            serving,
            kubelet_client,
            issued,
            ..
        } = &*self.0;
        let issued = issued.lock();
        let ca = ca.load();
        serving.replace(&ca.ensure(dir, &Profile::apiserver(config), now)?)?;
        kubelet_client.replace(&ca.ensure(dir, &Profile::kubelet_client(), now)?)?;
        let admin = ca.ensure(dir, &Profile::admin(), now)?;
        for (path, url) in &issued.kubeconfigs {
            self.write_kubeconfig(path, url, &admin)?;
        }
        for profile in issued.node.iter().flatten() {
            ca.ensure(dir, profile, now)?;
        }
        front_proxy_ca.ensure(dir, &Profile::front_proxy_client(), now)?;
        store.renew(config, now)?;
        Ok(now + profile::LEAF_LIFETIME / 30)
    }

    /// Takes over the CA and the service-account keys as their files are now, while everything runs. What the CA of before
    /// has signed is issued again.
    ///
    /// # Errors
    /// When a file cannot be used: then everything stays as it is.
    pub fn reload(&self) -> Result<(), PkiError> {
        let shared = &*self.0;
        // Nothing may be made here: a CA that is missing is not replaced by a new one.
        files::read(&shared.dir.join("ca.crt"))?;
        let ca = Authority::load_or_create(&shared.dir, "ca", "kubernetes")?;
        shared.token_keys.replace(&read_token_keys(&shared.dir)?)?;
        shared.client_trust.replace(ca.trusted())?;
        shared.kubelet_roots.replace(ca.trusted())?;
        shared.ca.store(Arc::new(ca));
        self.renew(SystemTime::now())?;
        shared.reloads.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Tells each time that [`reload`](Self::reload) has taken something over.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.0.reloads.subscribe()
    }

    /// Issues every certificate of this server again, with a new key. CAs stay.
    ///
    /// # Errors
    /// When one cannot be issued or written; what is missing then is made by the next renewal.
    pub fn issue_again(&self) -> Result<(), PkiError> {
        {
            let _one = self.0.issued.lock();
            for dir in [self.0.dir.clone(), self.0.dir.join("etcd")] {
                files::remove_leaves(&dir)?;
            }
        }
        self.renew(SystemTime::now()).map(drop)
    }

    /// The CA and the service-account keys by which this server judges now.
    pub fn rotation(&self) -> RotationStatus {
        rotation_status::of(self)
    }

    /// Keeps the certificates fresh for as long as the process runs; a failure is logged and tried again later.
    pub async fn keep_renewed(self) {
        loop {
            let now = SystemTime::now();
            let next = match self.renew(now) {
                Ok(next) => next.duration_since(now).unwrap_or_default(),
                Err(error) => {
                    tracing::error!(%error, "certificates could not be renewed");
                    profile::RETRY_AFTER
                }
            };
            tokio::time::sleep(next).await;
        }
    }

    /// TLS of the API's port: HTTP/2 and HTTP/1.1, client certificates asked for but not required. Whether a client's
    /// certificate is good is decided by [`client_trust`](Self::client_trust), so that a bad one is answered with 401.
    pub fn server_tls_config(&self) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let hints = vec![self.0.ca.load().subject(), self.0.front_proxy_ca.subject()];
        tls::server_config(&self.0.serving, hints)
    }

    /// Judges client certificates.
    pub fn client_trust(&self) -> Result<ClientTrust, PkiError> {
        Ok(self.0.client_trust.clone())
    }

    /// The CAs that clients trust the API server by, in PEM (`kube-root-ca.crt`); that which signs comes first.
    pub fn ca_pem(&self) -> String {
        self.0.ca.load().pem().to_owned()
    }

    /// PEM that belongs behind each certificate of the CA, so that those believe it who trust only the CA of before.
    pub fn ca_cross_pem(&self) -> String {
        self.0.ca.load().cross().to_owned()
    }

    /// The CA that signs, in DER.
    pub fn ca_der(&self) -> CertificateDer<'static> {
        self.0.ca.load().der().clone()
    }

    /// The CA of front proxies' client certificates, in PEM.
    pub fn front_proxy_ca_pem(&self) -> &str {
        self.0.front_proxy_ca.pem()
    }

    /// Signs certificate requests with the cluster CA.
    pub fn signer(&self) -> Signer {
        Signer::new(Authority::clone(&self.0.ca.load()))
    }

    /// The keys of service-account tokens; a [`reload`](Self::reload) replaces them in all clones.
    pub fn token_keys(&self) -> TokenKeys {
        self.0.token_keys.clone()
    }

    /// TLS of the store: among members, and for clients of etcd's API.
    pub fn store_tls(&self) -> Result<StoreTls, PkiError> {
        self.0.store.tls()
    }

    /// How the API server connects to kubelets: theirs must be a serving certificate of the cluster CA.
    pub fn kubelet_tls_config(&self) -> Result<Arc<rustls::ClientConfig>, PkiError> {
        tls::client_config(&self.0.kubelet_roots, &self.0.kubelet_client)
    }

    /// How the API server shows itself to aggregated API servers.
    pub fn front_proxy_client(&self) -> Result<KeyPairPem, PkiError> {
        self.issue(&self.0.front_proxy_ca, &Profile::front_proxy_client())
    }

    /// `CN=kubernetes-admin`, `O=system:masters`.
    pub fn admin(&self) -> Result<KeyPairPem, PkiError> {
        self.issue(&self.0.ca.load(), &Profile::admin())
    }

    /// Certificates of the node `name` on this machine. `addresses` go into the serving certificate beside the name.
    pub fn node_identity(
        &self,
        name: &str,
        addresses: &[IpAddr],
    ) -> Result<NodeIdentity, PkiError> {
        let profiles = [
            Profile::node_client(name),
            Profile::node_serving(name, addresses),
        ];
        let mut issued = self.0.issued.lock();
        for profile in &profiles {
            let ca = self.0.ca.load();
            ca.ensure(&self.0.dir, profile, SystemTime::now())?;
        }
        let [client, serving] = &profiles;
        let identity = NodeIdentity {
            client: self.files(client),
            serving: self.files(serving),
            ca: self.0.dir.join("ca.crt"),
        };
        issued.node = Some(profiles);
        Ok(identity)
    }

    fn files(&self, profile: &Profile) -> KeyPairFiles {
        let file = |ending: &str| self.0.dir.join(format!("{}.{ending}", profile.file));
        KeyPairFiles {
            certificate: file("crt"),
            key: file("key"),
        }
    }

    /// Writes the administrator's kubeconfig (mode 600) for the server at `url`, and again when its certificate is renewed.
    pub fn write_admin_kubeconfig(&self, path: &Path, url: &str) -> Result<(), PkiError> {
        self.write_kubeconfig(path, url, &self.admin()?)?;
        let kubeconfigs = &mut self.0.issued.lock().kubeconfigs;
        kubeconfigs.push((path.to_owned(), url.to_owned()));
        Ok(())
    }

    fn write_kubeconfig(&self, path: &Path, url: &str, admin: &KeyPairPem) -> Result<(), PkiError> {
        let text = kubeconfig("xebec", url, &self.ca_pem(), "kubernetes-admin", admin);
        if files::read_if_there(path)?.as_deref() == Some(&text) {
            return Ok(());
        }
        files::write(path, text.as_bytes(), files::PRIVATE)
    }

    fn issue(&self, authority: &Authority, profile: &Profile) -> Result<KeyPairPem, PkiError> {
        let _one = self.0.issued.lock();
        authority.ensure(&self.0.dir, profile, SystemTime::now())
    }
}

/// The private keys of service-account tokens in PEM: the one that signs, then the one before it while that is still
/// believed.
fn read_token_keys(dir: &Path) -> Result<Vec<String>, PkiError> {
    let former = files::read_if_there(&dir.join(rotation::TOKEN_FORMER_KEY))?;
    let current = files::read(&dir.join("sa.key"))?;
    Ok([Some(current), former].into_iter().flatten().collect())
}

#[cfg(test)]
mod tests;
