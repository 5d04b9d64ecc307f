//! `xebec store`: the datastore alone, behind etcd's v3 gRPC API and under etcd's own flags.

mod cluster;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use etcd_api::{Front, Options, ServeError, TlsFiles};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::StoreArgs;
use crate::cli::etcd_line::Heard;
use crate::cli::state::duration;
use crate::logging;
use crate::process::{StopSignals, notify_ready, notify_stopping};

/// Above it, a write would not fit into one message between members: a leader could log what no follower takes.
const LARGEST_MAX_REQUEST_BYTES: usize = raft_store::limits::PEER_FRAME_BYTES / 2;

pub async fn run(args: StoreArgs) -> Result<()> {
    logging::init(&args.log)?;
    tell(&args.heard);
    let listeners = listeners(&args)?;
    let tls = tls(&args)?;
    let mut signals = StopSignals::install()?;
    let auto_compaction = args.state.auto_compaction()?;
    let corrupt_check = args.state.corrupt_check()?;
    let (config, options) = configure(&args)?;
    if args.state.force_new_cluster {
        let path = config.data_dir.clone();
        tokio::task::spawn_blocking(move || raft_store::force_new_cluster(&path)).await??;
    }
    let store = raft_store::Store::open(config).await?;
    if args.state.checks_at_start()
        && let Err(error) = store.check_against_others().await
    {
        store.shutdown().await;
        return Err(error).context("this member does not hold what others hold");
    }
    if let Some(interval) = corrupt_check {
        tokio::spawn(store.clone().watch_for_corruption(interval));
    }
    if let Some(policy) = auto_compaction {
        tokio::spawn(store.clone().auto_compact(policy));
    }
    let shutdown = CancellationToken::new();
    let front = Front::new(store.clone(), options, shutdown.clone());
    let mut servers = match serve(&front, listeners, tls).await {
        Ok(servers) => servers,
        Err(error) => {
            // Its threads must not outlive the process.
            store.shutdown().await;
            return Err(error);
        }
    };
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

/// What became of flags that only etcd has a use for.
fn tell(heard: &Heard) {
    for warning in &heard.warnings {
        tracing::warn!("{warning}");
    }
    if !heard.ignored.is_empty() {
        let flags = heard.ignored.join(", ");
        tracing::info!(flags, "these flags of etcd's change nothing here");
    }
}

/// Numbers with which the store would not work.
fn check_numbers(args: &StoreArgs) -> Result<()> {
    ensure!(args.max_txn_ops > 0, "--max-txn-ops must be above 0");
    ensure!(
        args.max_concurrent_streams > 0,
        "--max-concurrent-streams must be above 0"
    );
    ensure!(
        (1..=LARGEST_MAX_REQUEST_BYTES).contains(&args.max_request_bytes),
        "--max-request-bytes[{}] must be above 0 and at most {LARGEST_MAX_REQUEST_BYTES}: \
         larger writes would not fit into a message between members",
        args.max_request_bytes
    );
    Ok(())
}

/// What the flags say of the member and of its API.
fn configure(args: &StoreArgs) -> Result<(raft_store::Config, Options)> {
    check_numbers(args)?;
    let data_dir = args
        .data_dir
        .clone()
        .unwrap_or_else(|| format!("{}.etcd", args.name).into());
    let mut config = raft_store::Config::new(data_dir);
    config.name = args.name.clone();
    config.client_urls = args.advertise_client_urls.clone();
    cluster::configure(&args.peers, &mut config)?;
    config.quota_backend_bytes = args.state.quota();
    config.max_request_bytes = args.max_request_bytes;
    config.max_txn_ops = args.max_txn_ops;
    let options = Options {
        max_request_bytes: args.max_request_bytes,
        max_concurrent_streams: args.max_concurrent_streams,
        election_timeout: config.election_timeout,
        watch_progress_notify_interval: duration(
            "watch-progress-notify-interval",
            &args.watch_progress_notify_interval,
        )?,
        quota_bytes: i64::try_from(config.quota_backend_bytes).unwrap_or(i64::MAX),
        ..Options::default()
    };
    Ok((config, options))
}

/// Where clients are served, then where only metrics and health are.
fn listeners(args: &StoreArgs) -> Result<Vec<(Listener, bool)>> {
    let of = |flag: &'static str, urls: &[String], metrics_only| {
        let parse = |url: &String| {
            let listener = Listener::parse(url).with_context(|| format!("--{flag}"))?;
            Ok((listener, metrics_only))
        };
        urls.iter().map(parse).collect::<Result<Vec<_>>>()
    };
    let mut all = of("listen-client-urls", &args.listen_client_urls, false)?;
    all.extend(of("listen-metrics-urls", &args.listen_metrics_urls, true)?);
    Ok(all)
}

async fn serve(
    front: &Front,
    listeners: Vec<(Listener, bool)>,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Result<JoinSet<Result<(), ServeError>>> {
    let mut servers = JoinSet::new();
    for (listener, metrics_only) in listeners {
        let tls = match listener.tls {
            true => Some(
                tls.clone()
                    .context("an https URL needs --cert-file and --key-file")?,
            ),
            false => None,
        };
        let (address, front) = (listener.address, front.clone());
        let bound = tokio::net::TcpListener::bind(address).await;
        let bound = bound.with_context(|| format!("cannot listen on {address}"))?;
        tracing::info!(%address, tls = listener.tls, metrics_only, "serving etcd's v3 API");
        servers.spawn(async move {
            match metrics_only {
                true => front.serve_metrics(bound, tls).await,
                false => front.serve(bound, tls).await,
            }
        });
    }
    Ok(servers)
}

/// One of the URLs to listen on.
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
    format!("{url} is not of the form http://IP:PORT or https://IP:PORT")
}

fn tls(args: &StoreArgs) -> Result<Option<Arc<rustls::ServerConfig>>> {
    let (Some(cert_file), Some(key_file)) = (args.cert_file.clone(), args.key_file.clone()) else {
        if args.cert_file.is_some() || args.key_file.is_some() {
            bail!("--cert-file and --key-file go together");
        }
        return Ok(None);
    };
    let files = TlsFiles {
        cert_file,
        key_file,
        trusted_ca_file: args.trusted_ca_file.clone(),
        // As in etcd: who names a CA wants certificates by it.
        client_cert_auth: args.client_cert_auth || args.trusted_ca_file.is_some(),
    };
    Ok(Some(files.server_config()?))
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
