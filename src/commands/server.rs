//! `xebec server`: opens the store, starts the control plane on it, and a node agent beside them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use control_plane::{ControlPlane, ControlPlaneConfig, Leadership};
use node::{AgentConfig, Identity, Pem};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::{ProxyMode, ServerArgs};
use crate::embedded_store::{EmbeddedStore, fence_of_term};
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
    create_data_dir(&args)?;
    let store =
        raft_store::Store::open(raft_store::Config::new(args.data_dir.join("server/store")))
            .await?;
    let leadership = leadership(&store);
    let datastore = Arc::new(EmbeddedStore::new(store.clone()));
    let config = control_plane_config(&args, &identified);
    let control_plane = match ControlPlane::start(config, datastore, leadership).await {
        Ok(control_plane) => control_plane,
        Err(error) => return Err(abandoned(&store, error.into()).await),
    };
    let shutdown = CancellationToken::new();
    let mut agent = match start_agent(&args, &identified, &control_plane, &shutdown) {
        Ok(agent) => agent,
        Err(error) => {
            control_plane.shutdown().await;
            return Err(abandoned(&store, error).await);
        }
    };
    notify_ready();
    tracing::info!(kubeconfig = %control_plane.kubeconfig().display(), "xebec server is ready");

    let outcome = tokio::select! {
        () = signals.received() => Ok(()),
        ended = join(agent.as_mut()) => ended.and_then(|()| bail!("the node agent has ended")),
    };
    tracing::info!("stopping; a second signal stops at once");
    notify_stopping();
    let stop = async {
        shutdown.cancel();
        if let Some(agent) = agent.filter(|agent| !agent.is_finished()) {
            let _ = agent.await;
        }
        control_plane.shutdown().await;
        store.shutdown().await;
    };
    tokio::select! {
        () = stop => outcome,
        () = signals.received() => bail!("stopped at once by a second signal"),
    }
}

/// Closes the store before a start that failed ends the process: its threads must not outlive it.
async fn abandoned(store: &raft_store::Store, error: anyhow::Error) -> anyhow::Error {
    store.shutdown().await;
    error
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

fn create_data_dir(args: &ServerArgs) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let server = args.data_dir.join("server");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&server)
        .with_context(|| format!("cannot create the data directory {}", server.display()))
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

fn control_plane_config(args: &ServerArgs, identified: &Identified) -> ControlPlaneConfig {
    ControlPlaneConfig {
        directory: args.data_dir.join("server"),
        listen: SocketAddr::new(args.bind_address, args.https_port),
        advertise_address: identified.advertise_address,
        node_name: identified.node_name.clone(),
        cluster_cidr: args.cluster_cidr.clone(),
        service_cidr: args.service_cidr.clone(),
        cluster_dns: args.cluster_dns,
        cluster_domain: args.cluster_domain.clone(),
        tls_sans: args.tls_san.clone(),
        write_kubeconfig: args.write_kubeconfig.clone(),
        version: format!("v1.36.0+xebec.{}", env!("CARGO_PKG_VERSION")),
    }
}

type AgentTask = tokio::task::JoinHandle<Result<(), node::AgentError>>;

/// Starts the node agent; it talks to this server like any other client. Without one, the answer is none.
fn start_agent(
    args: &ServerArgs,
    identified: &Identified,
    control_plane: &ControlPlane,
    shutdown: &CancellationToken,
) -> Result<Option<AgentTask>> {
    if args.disable_agent {
        return Ok(None);
    }
    let server = control_plane.local_address();
    let node = control_plane.node_identity(&identified.node_name, &[identified.node_ip])?;
    let pem = |text: &str| Pem::Inline(text.to_owned());
    let identity = |pair: &api_server::KeyPairPem| Identity {
        cert: pem(&pair.certificate),
        key: pem(&pair.key),
    };
    let mut config = AgentConfig::new(
        format!("https://{server}"),
        pem(&node.ca),
        identity(&node.client),
        identity(&node.serving),
        identified.node_name.clone(),
        identified.node_ip,
        agent_dir(args),
    );
    config.container_runtime_endpoint = args.agent.container_runtime_endpoint.clone();
    config.kubelet_port = args.agent.kubelet_port;
    config.healthz_port = args.agent.healthz_port;
    config.cluster_dns = Some(args.cluster_dns);
    config.cluster_domain = args.cluster_domain.clone();
    config.cluster_cidr = args.cluster_cidr.clone();
    config.service_cidr = args.service_cidr.clone();
    Ok(Some(tokio::spawn(node::run(config, shutdown.clone()))))
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
