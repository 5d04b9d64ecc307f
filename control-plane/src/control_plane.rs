//! A whole control plane: certificates, API server, and what runs where leadership is. Start and stop.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api_client::{Backend, Client, User};
use api_machinery::Status;
use api_server::{
    ApiServer, Config, ENCRYPTION_KEY_FILE, Extension, NodeIdentity, Pki, PkiConfig, PkiError,
    SecurityConfig, SecurityParts, Settings, StartError, Store, ensure_security_objects,
};
use controllers::{AddressBlock, InvalidAddressBlock, Options, SigningAuthority};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::ControlPlaneConfig;
use crate::endpoints::LivingMasters;
use crate::leader::{self, Leadership};
use crate::rotation::{self, Rotation};
use crate::{api_services, cluster_dns, cluster_settings, kubeadm, own_node};

/// The wait before the first objects are tried again.
const FIRST_OBJECTS_RETRY: Duration = Duration::from_secs(1);

/// Why a control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    #[error("--{flag}: {source}")]
    Addresses {
        flag: &'static str,
        source: InvalidAddressBlock,
    },
    #[error("--cluster-dns: {address} is not inside --service-cidr {cidr}")]
    DnsOutside { address: IpAddr, cidr: String },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Api(#[from] StartError),
    #[error("cannot make the cluster's first objects: {0}")]
    FirstObjects(String),
}

/// A running control plane.
pub struct ControlPlane {
    pki: Pki,
    api: ApiServer,
    listen: SocketAddr,
    kubeconfig: PathBuf,
    shutdown: CancellationToken,
    _ends_with_it: DropGuard,
    tasks: TaskTracker,
}

/// The cluster's certificates as `config` needs them: those that are there, new ones where they are missing.
///
/// # Errors
/// A setting that cannot be, certificates that cannot be used.
pub fn certificates(config: &ControlPlaneConfig) -> Result<Pki, ControlPlaneError> {
    let service_cidr = block("service-cidr", &config.service_cidr)?;
    let tls = config.directory.join("tls");
    Ok(Pki::load_or_create(
        &tls,
        &pki_config(config, service_cidr),
    )?)
}

impl ControlPlane {
    /// Returns when the API answers. Scheduler and controllers start by themselves when this process leads.
    ///
    /// # Errors
    /// A setting that cannot be, an address that is taken, certificates that cannot be used.
    pub async fn start(
        config: ControlPlaneConfig,
        pki: Pki,
        store: Arc<dyn Store>,
        leadership: Leadership,
        living: LivingMasters,
        extensions: Vec<Arc<dyn Extension>>,
    ) -> Result<Self, ControlPlaneError> {
        let service_cidr = block("service-cidr", &config.service_cidr)?;
        let cluster_cidr = block("cluster-cidr", &config.cluster_cidr)?;
        if !contains(service_cidr, config.cluster_dns) {
            let cidr = config.service_cidr.clone();
            return Err(ControlPlaneError::DnsOutside {
                address: config.cluster_dns,
                cidr,
            });
        }
        let tls = config.directory.join("tls");
        let api = start_api(&config, service_cidr, &pki, store, extensions).await?;
        let listen = api.address().unwrap_or(config.listen);
        let url = format!(
            "https://{}",
            SocketAddr::new(config.advertise_address, listen.port())
        );
        let admin = Client::new(api.backend(), superuser());
        first_objects(&admin, &api, &pki, &url, &config).await?;
        let kubeconfig = write_kubeconfigs(&config, &pki, &url)?;
        let reloads = pki.reloads();
        let options = watch::Sender::new(options(&config, cluster_cidr, &pki, &tls)?);
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(leader::follow(
            api.backend(),
            api.reader(),
            options.subscribe(),
            // As upstream: the host, and what tells one process from another.
            format!("{}_{}", config.node_name, uuid::Uuid::new_v4()),
            leadership,
            living,
            shutdown.clone(),
        ));
        let follower = Rotation {
            pki: pki.clone(),
            tls,
            url: url.clone(),
            admin: admin.clone(),
            reader: api.reader(),
            options,
            config: config.clone(),
        };
        tasks.spawn(rotation::follow(follower, reloads, shutdown.clone()));
        let (renewed, stopped) = (pki.clone(), shutdown.clone());
        let (backend, node_name) = (api.backend(), config.node_name.clone());
        let objects = async move {
            api_services::ensure(admin.clone()).await;
            own_node::keep_role(backend, admin, node_name).await;
            std::future::pending().await
        };
        tasks.spawn(async move {
            tokio::select! {
                () = renewed.keep_renewed() => {}
                () = objects => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self {
            pki,
            api,
            listen,
            kubeconfig,
            _ends_with_it: shutdown.clone().drop_guard(),
            shutdown,
            tasks,
        })
    }

    /// An address of this machine at which the API answers.
    pub fn local_address(&self) -> SocketAddr {
        let mut address = self.listen;
        if address.ip().is_unspecified() {
            let loopback: IpAddr = if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                [0, 0, 0, 0, 0, 0, 0, 1].into()
            };
            address.set_ip(loopback);
        }
        address
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API for callers in the process.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.api.backend()
    }

    /// Certificates of the node on this machine.
    ///
    /// # Errors
    /// When they cannot be issued or written.
    pub fn node_identity(
        &self,
        name: &str,
        addresses: &[IpAddr],
    ) -> Result<NodeIdentity, PkiError> {
        self.pki.node_identity(name, addresses)
    }

    /// Stops scheduler and controllers, then lets running requests end.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.api.shutdown().await;
    }
}

/// The administrator's, and a copy where one is asked for; answers where the first lies.
fn write_kubeconfigs(
    config: &ControlPlaneConfig,
    pki: &Pki,
    url: &str,
) -> Result<PathBuf, PkiError> {
    let kubeconfig = config.directory.join("admin.kubeconfig");
    for path in [Some(&kubeconfig), config.write_kubeconfig.as_ref()]
        .into_iter()
        .flatten()
    {
        pki.write_admin_kubeconfig(path, url)?;
    }
    Ok(kubeconfig)
}

/// What must be there before the first client comes.
async fn first_objects(
    admin: &Client,
    api: &ApiServer,
    pki: &Pki,
    url: &str,
    config: &ControlPlaneConfig,
) -> Result<(), ControlPlaneError> {
    while let Err(status) = try_first_objects(admin, api, pki, url, config).await {
        if status.code < 500 {
            return Err(ControlPlaneError::FirstObjects(status.to_string()));
        }
        // The masters may have lost their majority since this one came up: they find it again, or are told to stop.
        tracing::warn!(%status, "the cluster's first objects cannot be made yet; trying again");
        tokio::time::sleep(FIRST_OBJECTS_RETRY).await;
    }
    Ok(())
}

async fn try_first_objects(
    admin: &Client,
    api: &ApiServer,
    pki: &Pki,
    url: &str,
    config: &ControlPlaneConfig,
) -> Result<(), Status> {
    ensure_security_objects(admin, &api.reader(), pki, url).await?;
    cluster_dns::ensure(admin, config.cluster_dns).await?;
    kubeadm::ensure(admin, config, url).await?;
    cluster_settings::ensure(admin, config, &pki.ca_pem()).await
}

async fn start_api(
    config: &ControlPlaneConfig,
    service_cidr: AddressBlock,
    pki: &Pki,
    store: Arc<dyn Store>,
    extensions: Vec<Arc<dyn Extension>>,
) -> Result<ApiServer, ControlPlaneError> {
    let advertise_address = SocketAddr::new(config.advertise_address, config.listen.port());
    let security = SecurityParts::new(
        pki,
        SecurityConfig {
            cluster_domain: config.cluster_domain.clone(),
            server_url: format!("https://{advertise_address}"),
            anonymous: true,
            default_tolerations: config.default_tolerations,
        },
    )?;
    let api_config = Config {
        listen: Some(config.listen),
        tls: Some(pki.server_tls_config()?),
        kubelet_tls: Some(pki.kubelet_tls_config()?),
        encryption_key: Some(config.directory.join(ENCRYPTION_KEY_FILE)),
        settings: Settings {
            advertise_address,
            service_cidr: (service_cidr.address, service_cidr.prefix),
            version: config.version.clone(),
            commit: String::new(),
        },
        audit: config.audit.clone(),
        documents: security.openid_documents().into(),
        extensions,
        security: Box::new(|inside| security.build(inside)),
    };
    Ok(ApiServer::start(api_config, store).await?)
}

fn pki_config(config: &ControlPlaneConfig, service_cidr: AddressBlock) -> PkiConfig {
    PkiConfig {
        node_name: config.node_name.clone(),
        advertise_address: config.advertise_address,
        service_address: first_address(service_cidr),
        cluster_domain: config.cluster_domain.clone(),
        tls_sans: config.tls_sans.clone(),
    }
}

fn block(flag: &'static str, text: &str) -> Result<AddressBlock, ControlPlaneError> {
    text.parse()
        .map_err(|source| ControlPlaneError::Addresses { flag, source })
}

/// The address of the Service `default/kubernetes`.
fn first_address(block: AddressBlock) -> IpAddr {
    match block.address {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) + 1).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) + 1).into()),
    }
}

fn contains(block: AddressBlock, address: IpAddr) -> bool {
    match (block.address, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let shift = 32 - u32::from(block.prefix);
            u32::from(network).checked_shr(shift) == u32::from(address).checked_shr(shift)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let shift = 128 - u32::from(block.prefix);
            u128::from(network).checked_shr(shift) == u128::from(address).checked_shr(shift)
        }
        _ => false,
    }
}

/// What the controllers are told; with the CA as it is now.
pub(crate) fn options(
    config: &ControlPlaneConfig,
    cluster_cidr: AddressBlock,
    pki: &Pki,
    tls: &Path,
) -> Result<Options, ControlPlaneError> {
    let path = tls.join("ca.key");
    let key_pem = std::fs::read_to_string(&path);
    let key_pem = key_pem.map_err(|source| ControlPlaneError::Read { path, source })?;
    Ok(Options {
        cluster_cidrs: vec![cluster_cidr],
        root_ca_pem: pki.ca_pem(),
        signing_authority: Some(SigningAuthority {
            certificate_pem: pki.ca_pem(),
            key_pem,
            chain_pem: pki.ca_cross_pem(),
        }),
        node_monitor_grace_period: config.node_monitor_grace_period,
        ..Options::default()
    })
}

/// Who makes the cluster's first objects.
pub(crate) fn superuser() -> Arc<User> {
    let groups = vec!["system:masters".into(), "system:authenticated".into()];
    Arc::new(User {
        name: "system:apiserver".into(),
        groups,
    })
}

#[cfg(test)]
mod tests {
    use super::{contains, first_address};

    #[test]
    fn addresses_are_counted_inside_their_block() {
        let block = "10.43.0.0/16".parse().expect("a block");
        assert_eq!(first_address(block).to_string(), "10.43.0.1");
        assert!(contains(block, [10, 43, 0, 10].into()));
        assert!(!contains(block, [10, 44, 0, 10].into()));
        let all = "0.0.0.0/0".parse().expect("a block");
        assert!(contains(all, [10, 44, 0, 10].into()));
    }
}
