//! The store behind etcd's API without the rest of the binary: quick to build, for trying a change of the API.

use etcd_api::{Front, Options};
use tokio_util::sync::CancellationToken;

fn flag(name: &str) -> Option<String> {
    let prefix = format!("--{name}=");
    std::env::args().find_map(|argument| argument.strip_prefix(&prefix).map(str::to_owned))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data_dir = flag("data-dir").ok_or("--data-dir=DIR is needed")?;
    let url = flag("listen-client-urls").ok_or("--listen-client-urls=URL is needed")?;
    let address = url.trim_start_matches("http://").to_owned();
    let mut config = raft_store::Config::new(data_dir);
    config.client_urls = vec![url];
    config.peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
    let store = raft_store::Store::open(config).await?;
    let front = Front::new(store, Options::default(), CancellationToken::new());
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(front.serve(listener, None).await?)
}
