//! The masters' keys in the store, sealed under the server token: written when they change, taken out again where only the
//! store was restored.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use raft_store::{Config, KeyRange, PutRequest, RangeRequest, Store};

use super::bundle::Bundle;
use super::{seal, server_token};
use crate::join_token::JoinToken;

/// Outside of what Kubernetes' objects lie under.
const KEY: &[u8] = b"/xebec/masters-bundle";

/// Puts the keys of this master into the store, unless they lie there as they are.
pub async fn keep_bundle(store: &Store, server: &Path) -> Result<()> {
    let token = server_token::read_or_create(server)?;
    let bundle = Bundle::read(server)?;
    let secret = &token.bootstrap.secret;
    if let Some(sealed) = read(store, false).await? {
        let kept = seal::open(secret, &sealed).and_then(|plain| Bundle::from_json(&plain));
        if kept.is_ok_and(|kept| kept == bundle) {
            return Ok(());
        }
    }
    let put = PutRequest {
        key: Bytes::from_static(KEY),
        value: seal::seal(secret, &bundle.to_json())?.into(),
        ..PutRequest::default()
    };
    store.put(put).await.map(drop)?;
    Ok(())
}

async fn read(store: &Store, serializable: bool) -> Result<Option<Bytes>> {
    let request = RangeRequest {
        range: KeyRange::single(Bytes::from_static(KEY)),
        serializable,
        ..RangeRequest::default()
    };
    let answer = store.range(request).await?;
    Ok(answer.kvs.into_iter().next().map(|kv| kv.value))
}

/// Takes the keys out of the store in `server` and writes them as files, where they are missing.
pub async fn recover(server: &Path, token: &JoinToken) -> Result<()> {
    let store = Store::open(Config::new(server.join("store"))).await?;
    let sealed = read(&store, true).await;
    store.shutdown().await;
    let sealed = sealed?.context("the store holds no keys of a cluster's masters")?;
    let plain = seal::open(&token.bootstrap.secret, &sealed).context(
        "the cluster's keys cannot be opened: --token must be the server token, which was in DATA_DIR/server/token",
    )?;
    let bundle = Bundle::from_json(&plain)?;
    let found = node::pem_key_hash(&bundle.ca()?).map_err(anyhow::Error::msg)?;
    ensure!(
        found == token.ca_hash,
        "the store is of another cluster than the token: its CA has the hash {}",
        hex::encode(found)
    );
    bundle.write(server)
}
