//! `xebec agent`: a worker that joins a cluster by a token and runs its pods.

use anyhow::{Context, Result, bail};
use node::{AgentConfig, EnrollConfig, EnrollToken};
use tokio_util::sync::CancellationToken;

use crate::cli::{AgentArgs, ProxyMode};
use crate::join_token::JoinToken;
use crate::process::{StopSignals, notify_ready, notify_stopping};
use crate::{logging, machine};

pub async fn run(args: AgentArgs) -> Result<()> {
    logging::init(&args.log)?;
    if !machine::is_root() {
        bail!("running containers needs root: run as root");
    }
    if args.agent.proxy_mode == ProxyMode::Iptables {
        bail!("--proxy-mode: iptables is not supported yet; leave it at nftables");
    }
    let mut signals = StopSignals::install()?;
    let shutdown = CancellationToken::new();
    let config = enroll_config(&args)?;
    let enrolled = tokio::select! {
        enrolled = node::enroll(config) => enrolled?,
        () = signals.received() => return Ok(()),
    };
    let config = agent_config(&args, &enrolled).await?;
    let mut agent = tokio::spawn(node::run(config, Some(enrolled), shutdown.clone()));
    notify_ready();
    let outcome = tokio::select! {
        () = signals.received() => Ok(()),
        ended = &mut agent => match ended.context("the node agent")? {
            Ok(()) => bail!("the node agent has ended"),
            Err(error) => Err(error.into()),
        },
    };
    tracing::info!("stopping; a second signal stops at once");
    notify_stopping();
    let stop = async {
        shutdown.cancel();
        if !agent.is_finished() {
            let _ = agent.await;
        }
    };
    tokio::select! {
        () = stop => outcome,
        () = signals.received() => bail!("stopped at once by a second signal"),
    }
}

fn enroll_config(args: &AgentArgs) -> Result<EnrollConfig> {
    let token = args.token.as_deref().map(str::parse::<JoinToken>);
    let token = token.transpose().context("--token")?;
    Ok(EnrollConfig {
        server: args.server.trim_end_matches('/').to_owned(),
        token: token.map(|token| EnrollToken {
            ca_hash: token.ca_hash,
            bootstrap: token.bootstrap.to_string(),
        }),
        node_name: match &args.node_name {
            Some(name) => name.clone(),
            None => machine::node_name()?,
        },
        node_ip: match args.node_ip {
            Some(address) => address,
            None => machine::default_address()?,
        },
        directory: args.data_dir.join("agent/pki"),
    })
}

async fn agent_config(args: &AgentArgs, enrolled: &node::Enrolled) -> Result<AgentConfig> {
    let settings = enrolled.settings().await?;
    let mut config = AgentConfig::new(
        args.server.clone(),
        enrolled.ca(),
        enrolled.client_identity(),
        enrolled.serving_identity(),
        enrolled.node_name(),
        enrolled.node_ip(),
        args.data_dir.join("agent"),
    );
    config.servers = enrolled.servers();
    config.container_runtime_endpoint = args.agent.container_runtime_endpoint.clone();
    config.kubelet_port = args.agent.kubelet_port;
    config.healthz_port = args.agent.healthz_port;
    config.eviction_hard = args.agent.eviction_hard.clone();
    config.self_fence = args.agent.self_fence;
    config.cluster_dns = Some(settings.cluster_dns);
    config.cluster_domain = settings.cluster_domain;
    config.cluster_cidr = settings.cluster_cidr;
    config.service_cidr = settings.service_cidr;
    Ok(config)
}
