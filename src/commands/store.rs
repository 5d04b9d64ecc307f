//! `xebec store`: the datastore alone, behind etcd's v3 gRPC API and under etcd's own flag names.

mod cluster;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use etcd_api::Front;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::cli::StoreArgs;
use crate::logging;
use crate::process::{StopSignals, notify_ready, notify_stopping};

pub async fn run(args: StoreArgs) -> Result<()> {
    logging::init(&args.log)?;
    let listeners = args
        .listen_client_urls
        .iter()
        .map(|url| Listener::parse(url))
        .collect::<Result<Vec<_>>>()?;
    let tls = tls(&args)?;
    let mut signals = StopSignals::install()?;
    let data_dir = args
        .data_dir
        .clone()
        .unwrap_or_else(|| format!("{}.etcd", args.name).into());
    let mut config = raft_store::Config::new(data_dir);
    config.name = args.name.clone();
    config.client_urls = args.advertise_client_urls.clone();
    cluster::configure(&args.peers, &mut config)?;
    config.quota_backend_bytes = args.state.quota();
    let auto_compaction = args.state.auto_compaction()?;
    if args.state.force_new_cluster {
        let path = config.data_dir.clone();
        tokio::task::spawn_blocking(move || raft_store::force_new_cluster(&path)).await??;
    }
    let max_request_bytes = config.max_request_bytes;
    let store = raft_store::Store::open(config).await?;
    if let Some(policy) = auto_compaction {
        tokio::spawn(store.clone().auto_compact(policy));
    }
    let shutdown = CancellationToken::new();
    let front = Front::new(store.clone(), shutdown.clone());
    let mut servers = tokio::task::JoinSet::new();
    for listener in listeners {
        let mut server = Server::builder();
        if listener.tls {
            let tls = tls
                .clone()
                .context("--listen-client-urls: https needs --cert-file and --key-file")?;
            server = server.tls_config(tls)?;
        }
        let routes = front.routes(max_request_bytes);
        let stop = shutdown.clone().cancelled_owned();
        let incoming = tonic::transport::server::TcpIncoming::bind(listener.address)
            .with_context(|| format!("cannot listen on {}", listener.address))?
            .with_nodelay(Some(true));
        tracing::info!(address = %listener.address, tls = listener.tls, "serving etcd's v3 API");
        servers.spawn(async move {
            server
                .add_routes(routes)
                .serve_with_incoming_shutdown(incoming, stop)
                .await
        });
    }
    let ready = async {
        // As etcd: a member is ready once it has found its cluster, and the cluster a leader.
        if store.ready().await.is_ok() {
            notify_ready();
        }
        std::future::pending::<()>().await
    };
    let why = tokio::select! {
        () = signals.received() => None,
        () = ready => None,
        why = store.ended() => Some(why),
        Some(ended) = servers.join_next() => {
            ended?.context("serving clients")?;
            None
        }
    };
    notify_stopping();
    let stop = async {
        shutdown.cancel();
        while servers.join_next().await.is_some() {}
        store.shutdown().await;
    };
    tokio::select! {
        () = stop => match why {
            Some(why) => bail!(why),
            None => Ok(()),
        },
        () = signals.received() => bail!("stopped at once by a second signal"),
    }
}

/// One of `--listen-client-urls`.
struct Listener {
    address: SocketAddr,
    tls: bool,
}

impl Listener {
    fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").with_context(|| wrong(url))?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => bail!(wrong(url)),
        };
        let address = rest.trim_end_matches('/').replace("localhost", "127.0.0.1");
        Ok(Self {
            address: address.parse().with_context(|| wrong(url))?,
            tls,
        })
    }
}

fn wrong(url: &str) -> String {
    format!("--listen-client-urls: {url} is not of the form http://IP:PORT or https://IP:PORT")
}

fn tls(args: &StoreArgs) -> Result<Option<ServerTlsConfig>> {
    let (Some(certificate), Some(key)) = (&args.cert_file, &args.key_file) else {
        if args.cert_file.is_some() || args.key_file.is_some() {
            bail!("--cert-file and --key-file go together");
        }
        return Ok(None);
    };
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut tls =
        ServerTlsConfig::new().identity(Identity::from_pem(read(certificate)?, read(key)?));
    if let Some(ca) = &args.trusted_ca_file {
        tls = tls
            .client_ca_root(Certificate::from_pem(read(ca)?))
            .client_auth_optional(!args.client_cert_auth);
    } else if args.client_cert_auth {
        bail!("--client-cert-auth needs --trusted-ca-file");
    }
    Ok(Some(tls))
}

#[cfg(test)]
mod tests {
    use super::Listener;

    #[test]
    fn client_urls_are_those_of_etcd() {
        let check = |url: &str, expect: Option<(&str, bool)>| {
            let found = Listener::parse(url)
                .ok()
                .map(|l| (l.address.to_string(), l.tls));
            assert_eq!(
                found,
                expect.map(|(address, tls)| (address.to_owned(), tls)),
                "{url}"
            );
        };
        check("http://127.0.0.1:2379", Some(("127.0.0.1:2379", false)));
        check("https://0.0.0.0:2379/", Some(("0.0.0.0:2379", true)));
        check("http://localhost:2379", Some(("127.0.0.1:2379", false)));
        check("unix://socket", None);
        check("127.0.0.1:2379", None);
    }
}
