//! The store behind etcd's API without the rest of the binary: quick to build, for trying a change of the API.

use std::time::Duration;

use etcd_api::Front;
use tokio_util::sync::CancellationToken;

fn flag(name: &str) -> Option<String> {
    let prefix = format!("--{name}=");
    std::env::args().find_map(|argument| argument.strip_prefix(&prefix).map(str::to_owned))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data_dir = flag("data-dir").ok_or("--data-dir=DIR is needed")?;
    let url = flag("listen-client-urls").ok_or("--listen-client-urls=URL is needed")?;
    let address = url.trim_start_matches("http://").parse()?;
    let config = raft_store::Config::new(data_dir);
    let max_request_bytes = config.max_request_bytes;
    let store = raft_store::Store::open(config).await?;
    let front = Front::new(store, CancellationToken::new());
    tonic::transport::Server::builder()
        .add_routes(front.routes(max_request_bytes))
        .serve(address)
        .await?;
    tokio::time::sleep(Duration::ZERO).await;
    Ok(())
}
