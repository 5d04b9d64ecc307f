//! This master's member of the store: how it is opened, when it may be used, and what its end means.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Error, Result};
use api_server::StoreTls;
use raft_store::{Bootstrap, Config, OpenError, PeerTls, Store};

/// Where other masters reach this one's member.
pub fn peer_url(address: IpAddr, port: u16) -> String {
    format!("https://{}", SocketAddr::new(address, port))
}

/// What the member is told by the flags.
pub struct Member<'a> {
    pub name: &'a str,
    pub advertise_address: IpAddr,
    /// 0 for a master that no other can join.
    pub peer_port: u16,
    /// 0 for none.
    pub client_port: u16,
}

/// Opens the member in `server`, with TLS on both sides between members.
pub async fn open(
    server: &Path,
    member: &Member<'_>,
    tls: &StoreTls,
    bootstrap: Bootstrap,
) -> Result<Store> {
    let mut config = Config::new(server.join("store"));
    config.name = member.name.to_owned();
    config.bootstrap = bootstrap;
    if member.peer_port != 0 {
        config.peer_urls = vec![peer_url(member.advertise_address, member.peer_port)];
        config.listen_peer_urls = config.peer_urls.clone();
        config.peer_urls_may_change = true;
    }
    if member.client_port != 0 {
        config.client_urls = vec![peer_url(member.advertise_address, member.client_port)];
    }
    config.peer_tls = PeerTls {
        cert_file: Some(tls.peer_certificate.clone()),
        key_file: Some(tls.peer_key.clone()),
        trusted_ca_file: Some(tls.peer_ca.clone()),
        client_cert_auth: true,
    };
    Store::open(config).await.map_err(|error| match error {
        OpenError::Removed { .. } => removed(server, &error.to_string()),
        OpenError::Listen { .. } => Error::new(error).context(
            "--store-peer-port: another master on this address? 0 makes a master that none can join",
        ),
        error => error.into(),
    })
}

/// Makes the member in `server`, whose masters are lost, a cluster of one.
pub async fn reset(server: &Path) -> Result<()> {
    let store = server.join("store");
    let changed = tokio::task::spawn_blocking(move || raft_store::force_new_cluster(&store))
        .await?
        .context("--cluster-reset")?;
    match changed {
        true => tracing::info!(
            "this master is a cluster of one now: start it again without --cluster-reset, then join others"
        ),
        false => tracing::info!("this master is alone already: start it without --cluster-reset"),
    }
    Ok(())
}

/// Waits until a majority of the masters agrees: before, nothing can be read.
///
/// A member that cannot go on waits for ever: what it ended of is told by the store.
pub async fn await_majority(store: &Store) {
    let mut leadership = store.leadership();
    let mut told = false;
    loop {
        if leadership.borrow_and_update().leader.is_some() && store.read_index().await.is_ok() {
            return;
        }
        if !told {
            tracing::info!("waiting for a majority of the masters");
            told = true;
        }
        if leadership.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Two masters stand still when one is lost.
pub fn warn_about_two(store: &Store) {
    let status = store.status();
    let voters = status.members.iter().filter(|member| !member.is_learner);
    if voters.count() == 2 {
        tracing::warn!(
            "the cluster has two masters: it stands still when either is lost; add a third one"
        );
    }
}

/// The last words of a master whose member cannot go on.
pub fn removed(server: &Path, why: &str) -> Error {
    if !why.contains("remove") {
        return anyhow::anyhow!("{why}");
    }
    anyhow::anyhow!(
        "{why}. To make this machine a master again, move {} away and start it with --join and --token",
        server.display()
    )
}
