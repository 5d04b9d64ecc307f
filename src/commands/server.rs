//! `xebec server`: opens the store, starts the control plane on it, and a node agent beside them.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use api_server::{Pki, StoreTls};
use control_plane::{ControlPlane, ControlPlaneConfig, Leadership};
use etcd_api::{Front, Options};
use node::{AgentConfig, Identity, Pem};
use raft_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::{ProxyMode, ServerArgs};
use crate::embedded_store::{EmbeddedStore, fence_of_term};
use crate::masters::{self, ClusterSettings};
use crate::process::{StopSignals, notify_ready, notify_stopping};
use crate::{logging, machine};

/// What the flags leave open, found out.
struct Identified {
    node_name: String,
    advertise_address: IpAddr,
    node_ip: IpAddr,
}

pub async fn run(args: ServerArgs) -> Result<()> {
    logging::init(&args.log)?;
    let identified = identify(&args)?;
    let mut signals = StopSignals::install()?;
    let server = create_data_dir(&args)?;
    if args.cluster_reset {
        return masters::reset(&server).await;
    }
    let opened = tokio::select! {
        opened = open(&args, &identified, &server) => opened?,
        () = signals.received() => return Ok(()),
    };
    let store = opened.store.clone();
    let lifetime = Lifetime::default();
    let begun = tokio::select! {
        begun = start(&args, &identified, &server, opened, &lifetime) => begun.map(Some),
        why = store.ended() => Err(masters::removed(&server, &why)),
        () = signals.received() => Ok(None),
    };
    let Running {
        control_plane,
        mut agent,
        sign,
    } = match begun {
        Ok(Some(running)) => running,
        not_begun => {
            lifetime.end().await;
            store.shutdown().await;
            return not_begun.map(drop);
        }
    };
    notify_ready();
    tracing::info!(kubeconfig = %control_plane.kubeconfig().display(), "xebec server is ready");

    let outcome = tokio::select! {
        () = signals.received() => Ok(()),
        why = store.ended() => Err(masters::removed(&server, &why)),
        ended = join(agent.as_mut()) => ended.and_then(|()| bail!("the node agent has ended")),
    };
    tracing::info!("stopping; a second signal stops at once");
    notify_stopping();
    let stop = async {
        lifetime.shutdown.cancel();
        // Clients go to another master, and another one leads, while this one still lets requests end.
        let _ = sign.await;
        store.hand_over().await;
        if let Some(agent) = agent.filter(|agent| !agent.is_finished()) {
            let _ = agent.await;
        }
        lifetime.end().await;
        control_plane.shutdown().await;
        store.shutdown().await;
    };
    tokio::select! {
        () = stop => outcome,
        () = signals.received() => bail!("stopped at once by a second signal"),
    }
}

/// A member of the store that runs, and what belongs to it.
struct Opened {
    store: Store,
    pki: Pki,
    tls: StoreTls,
    settings: ClusterSettings,
}

/// Joins where the flags ask for it, and opens this master's member of the store.
async fn open(args: &ServerArgs, identified: &Identified, server: &Path) -> Result<Opened> {
    let member = masters::Member {
        name: &identified.node_name,
        advertise_address: identified.advertise_address,
        peer_port: args.store_peer_port,
        client_port: args.store_client_port,
    };
    masters::complete_take_over(server)?;
    let bootstrap = masters::begin(args, server, &member).await?;
    let settings = ClusterSettings::settle(args.into(), server)?;
    let pki = control_plane::certificates(&control_plane_config(args, identified, &settings))?;
    let tls = pki.store_tls()?;
    let store = masters::open(server, &member, &tls, bootstrap).await?;
    Ok(Opened {
        store,
        pki,
        tls,
        settings,
    })
}

/// What runs on the store.
struct Running {
    control_plane: ControlPlane,
    agent: Option<AgentTask>,
    /// Takes this master's sign of life away when it stops.
    sign: JoinHandle<()>,
}

/// What must end before the store is closed, however far a start came: a thread that held it longer than the process
/// would pull it down in the middle of the process's end.
#[derive(Default)]
struct Lifetime {
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Lifetime {
    async fn end(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn start(
    args: &ServerArgs,
    identified: &Identified,
    server: &Path,
    opened: Opened,
    lifetime: &Lifetime,
) -> Result<Running> {
    let Opened {
        store,
        pki,
        tls,
        settings,
    } = opened;
    if args.store_client_port != 0 {
        serve_store(args, identified, &store, tls, lifetime).await?;
    }
    masters::await_majority(&store).await;
    if masters::adopt(&store, server).await? {
        tracing::info!(
            "the cluster's CA or keys were changed while this master was down: taking them over"
        );
        pki.reload()?;
    }
    let living = masters::follow_signs(store.clone());
    let extension = masters::Masters {
        living: living.clone(),
        store: store.clone(),
        server: server.to_owned(),
    };
    let certificates = masters::CertificatesApi {
        store: store.clone(),
        server: server.to_owned(),
        pki: pki.clone(),
    };
    let control_plane = ControlPlane::start(
        control_plane_config(args, identified, &settings),
        pki.clone(),
        Arc::new(EmbeddedStore::new(store.clone())),
        leadership(&store),
        living,
        vec![Arc::new(extension), Arc::new(certificates)],
    )
    .await?;
    let agent = async {
        settings.save(server)?;
        masters::keep_bundle(&store, server).await?;
        tokio::spawn(masters::follow_keys(store.clone(), server.to_owned(), pki));
        start_agent(args, identified, &settings, &control_plane, lifetime)
    };
    match agent.await {
        Ok(agent) => {
            masters::warn_about_two(&store);
            let port = control_plane.local_address().port();
            let sign = tokio::spawn(masters::keep_sign(
                store.clone(),
                identified.node_name.clone(),
                SocketAddr::new(identified.advertise_address, port),
                lifetime.shutdown.clone(),
            ));
            Ok(Running {
                control_plane,
                agent,
                sign,
            })
        }
        Err(error) => {
            control_plane.shutdown().await;
            Err(error)
        }
    }
}

/// Serves etcd's API to clients on other machines that have a certificate of the store's CA.
async fn serve_store(
    args: &ServerArgs,
    identified: &Identified,
    store: &Store,
    tls: StoreTls,
    lifetime: &Lifetime,
) -> Result<()> {
    let address = SocketAddr::new(identified.advertise_address, args.store_client_port);
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.with_context(|| {
        format!(
            "cannot listen on {address} for clients of the store: another port with --store-client-port, 0 for none"
        )
    })?;
    let front = Front::new(store.clone(), Options::default(), lifetime.shutdown.clone());
    lifetime.tasks.spawn(async move {
        if let Err(error) = front.serve(listener, Some(tls.server)).await {
            tracing::error!(%error, "clients of the store are served no more");
        }
    });
    Ok(())
}

fn identify(args: &ServerArgs) -> Result<Identified> {
    if !args.disable_agent && !machine::is_root() {
        bail!(
            "running containers needs root: run as root, or with --disable-agent as a master without a node"
        );
    }
    if args.agent.proxy_mode == ProxyMode::Iptables {
        bail!("--proxy-mode: iptables is not supported yet; leave it at nftables");
    }
    let advertise_address = match args.advertise_address {
        Some(address) => address,
        None if args.bind_address.is_unspecified() => machine::default_address()?,
        None => args.bind_address,
    };
    let node_name = match &args.node_name {
        Some(name) => name.clone(),
        None => machine::node_name()?,
    };
    Ok(Identified {
        node_name,
        advertise_address,
        node_ip: args.node_ip.unwrap_or(advertise_address),
    })
}

/// Makes `DATA_DIR/server`.
fn create_data_dir(args: &ServerArgs) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let server = args.data_dir.join("server");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&server)
        .with_context(|| format!("cannot create the data directory {}", server.display()))?;
    Ok(server)
}

/// Raft leadership as the control plane takes it: the fence of the term, while this member leads.
fn leadership(store: &raft_store::Store) -> Leadership {
    let mut source = store.leadership();
    let fence = |now: &raft_store::Leadership| now.is_leader.then(|| fence_of_term(now.term));
    let (sender, leadership) = watch::channel(fence(&source.borrow_and_update()));
    tokio::spawn(async move {
        while source.changed().await.is_ok() {
            let now = fence(&source.borrow_and_update());
            sender.send_if_modified(|known| {
                let differs = *known != now;
                known.clone_from(&now);
                differs
            });
        }
    });
    leadership
}

fn control_plane_config(
    args: &ServerArgs,
    identified: &Identified,
    settings: &ClusterSettings,
) -> ControlPlaneConfig {
    ControlPlaneConfig {
        directory: args.data_dir.join("server"),
        listen: SocketAddr::new(args.bind_address, args.https_port),
        advertise_address: identified.advertise_address,
        node_name: identified.node_name.clone(),
        cluster_cidr: settings.cluster_cidr.clone(),
        service_cidr: settings.service_cidr.clone(),
        cluster_dns: settings.cluster_dns,
        cluster_domain: settings.cluster_domain.clone(),
        tls_sans: args.tls_san.clone(),
        audit: args.audit.config(&args.data_dir.join("server")),
        write_kubeconfig: args.write_kubeconfig.clone(),
        node_monitor_grace_period: args.node_loss.node_monitor_grace_period,
        default_tolerations: args.node_loss.default_tolerations(),
        version: format!("v1.36.0+xebec.{}", env!("CARGO_PKG_VERSION")),
    }
}

type AgentTask = JoinHandle<Result<(), node::AgentError>>;

/// Starts the node agent; it talks to this server like any other client. Without one, the answer is none.
fn start_agent(
    args: &ServerArgs,
    identified: &Identified,
    settings: &ClusterSettings,
    control_plane: &ControlPlane,
    lifetime: &Lifetime,
) -> Result<Option<AgentTask>> {
    if args.disable_agent {
        return Ok(None);
    }
    let server = control_plane.local_address();
    let node = control_plane.node_identity(&identified.node_name, &[identified.node_ip])?;
    // Files, so that renewed certificates are used without a restart.
    let identity = |files: &api_server::KeyPairFiles| Identity {
        cert: Pem::Path(files.certificate.clone()),
        key: Pem::Path(files.key.clone()),
    };
    let mut config = AgentConfig::new(
        format!("https://{server}"),
        Pem::Path(node.ca.clone()),
        identity(&node.client),
        identity(&node.serving),
        identified.node_name.clone(),
        identified.node_ip,
        agent_dir(args),
    );
    config.container_runtime_endpoint = args.agent.container_runtime_endpoint.clone();
    config.kubelet_port = args.agent.kubelet_port;
    config.healthz_port = args.agent.healthz_port;
    config.eviction_hard = args.agent.eviction_hard.clone();
    config.self_fence = args.agent.self_fence;
    config.cluster_dns = Some(settings.cluster_dns);
    config.cluster_domain = settings.cluster_domain.clone();
    config.cluster_cidr = settings.cluster_cidr.clone();
    config.service_cidr = settings.service_cidr.clone();
    let shutdown = lifetime.shutdown.clone();
    Ok(Some(tokio::spawn(node::run(config, None, shutdown))))
}

fn agent_dir(args: &ServerArgs) -> PathBuf {
    args.data_dir.join("agent")
}

/// Waits for the agent's end; without an agent, forever.
async fn join(agent: Option<&mut AgentTask>) -> Result<()> {
    match agent {
        Some(agent) => Ok(agent.await.context("the node agent")??),
        None => std::future::pending().await,
    }
}
