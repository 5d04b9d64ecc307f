//! The store behind etcd's API without the rest of the binary: quick to build, for trying a change of the API, for
//! chaos and for measuring. Knows those of etcd's flags that a cluster needs; others are passed over. Logs warnings, or
//! what `RUST_LOG` says.

use etcd_api::{Front, Options, TlsFiles};
use raft_store::{Bootstrap, Config, Store};
use tokio_util::sync::CancellationToken;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `--name=VALUE` or `--name VALUE`.
fn flag(name: &str) -> Option<String> {
    let name = format!("--{name}");
    let mut arguments = std::env::args();
    while let Some(argument) = arguments.next() {
        if argument == name {
            return arguments.next();
        }
        if let Some((before, value)) = argument.split_once('=')
            && before == name
        {
            return Some(value.to_owned());
        }
    }
    None
}

fn bootstrap() -> Bootstrap {
    let Some(list) = flag("initial-cluster") else {
        return Bootstrap::Alone;
    };
    let named = |item: &str| {
        let (name, url) = item.split_once('=')?;
        Some((name.to_owned(), url.to_owned()))
    };
    let members = list.split(',').filter_map(named).collect();
    match flag("initial-cluster-state").as_deref() {
        Some("existing") => Bootstrap::Existing { members },
        _ => Bootstrap::Static {
            members,
            token: "etcd-cluster".to_owned(),
        },
    }
}

fn tls() -> Option<TlsFiles> {
    Some(TlsFiles {
        cert_file: flag("cert-file")?.into(),
        key_file: flag("key-file")?.into(),
        trusted_ca_file: flag("trusted-ca-file").map(Into::into),
        client_cert_auth: std::env::args().any(|argument| argument == "--client-cert-auth"),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // As in the binary, too.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .from_env()?;
    tracing_subscriber::fmt().with_env_filter(filter).init();
    let data_dir = flag("data-dir").ok_or("--data-dir=DIR is needed")?;
    let url = flag("listen-client-urls").ok_or("--listen-client-urls=URL is needed")?;
    let (_, address) = url.split_once("://").ok_or("a URL is needed")?;
    let address = address.to_owned();
    let tls = tls().map(|files| files.server_config()).transpose()?;
    let peer = flag("listen-peer-urls");
    let mut config = Config::new(data_dir);
    config.name = flag("name").unwrap_or_else(|| "default".to_owned());
    config.client_urls = vec![url];
    config.listen_peer_urls = peer.iter().cloned().collect();
    config.peer_urls = vec![peer.unwrap_or_else(|| "http://127.0.0.1:2380".to_owned())];
    config.bootstrap = bootstrap();
    let store = Store::open(config).await?;
    let front = Front::new(store.clone(), Options::default(), CancellationToken::new());
    let listener = tokio::net::TcpListener::bind(address).await?;
    tokio::select! {
        served = front.serve(listener, tls) => Ok(served?),
        why = store.ended() => Err(why.to_string().into()),
    }
}
