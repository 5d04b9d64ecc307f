//! The masters' keys in the store, sealed under the server token: written when they change, taken out again where only the
//! store was restored. What a change of CA or keys replaces is decided there: in one transaction, which every master follows.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api_server::{Pki, RotatedFiles};
use bytes::Bytes;
use raft_store::{
    Compare, CompareOp, CompareTarget, Config, KeyRange, KeyValue, PutRequest, RangeRequest,
    RequestOp, Store, TxnRequest, WatchRequest,
};

use super::bundle::Bundle;
use super::{seal, server_token};
use crate::join_token::JoinToken;

/// Outside of what Kubernetes' objects lie under.
const KEY: &[u8] = b"/xebec/masters-bundle";
/// How often a write is tried that others overtake.
const ATTEMPTS: u32 = 8;
/// The wait after a call of the store that failed.
const RETRY: Duration = Duration::from_millis(500);

/// The keys as the store has them.
struct Kept {
    /// None if they are sealed under another server token than this master's.
    bundle: Option<Bundle>,
    revision: i64,
}

/// Takes over what the store decides on, before this master's certificates are used; whether files have changed.
pub async fn adopt(store: &Store, server: &Path) -> Result<bool> {
    match kept(store, server).await? {
        None => Ok(false),
        Some(Kept {
            bundle: Some(bundle),
            ..
        }) => bundle.write_rotated(server),
        Some(_) => {
            tracing::warn!("the masters' keys in the store are sealed under another server token");
            Ok(false)
        }
    }
}

/// Puts the keys of this master into the store, unless they lie there as they are.
pub async fn keep_bundle(store: &Store, server: &Path) -> Result<()> {
    // It is one of them, and made here if there is none.
    server_token::read_or_create(server)?;
    for _ in 0..ATTEMPTS {
        let kept = kept(store, server).await?;
        let revision = kept.as_ref().map_or(0, |kept| kept.revision);
        let held = kept.and_then(|kept| kept.bundle);
        let mut bundle = Bundle::read(server)?;
        if let Some(held) = held {
            bundle = bundle.with_rotated(&held.rotated()?);
            if bundle == held {
                return Ok(());
            }
        }
        if put(store, server, &bundle, revision).await? {
            return Ok(());
        }
    }
    bail!("the masters' keys change all the time")
}

/// Changes the CA or a key for all masters at once: the new files, by name, take the place of the old ones.
pub async fn replace<E>(
    store: &Store,
    server: &Path,
    change: impl Fn(&RotatedFiles) -> Result<RotatedFiles, E>,
) -> Result<Result<(), E>> {
    for _ in 0..ATTEMPTS {
        let kept = kept(store, server).await?;
        let kept = kept.context("the store has no keys of masters yet")?;
        let (bundle, revision) = (kept.bundle, kept.revision);
        let bundle = bundle.context("the masters' keys are sealed under another server token")?;
        let files = match change(&bundle.rotated()?) {
            Ok(files) => files,
            Err(error) => return Ok(Err(error)),
        };
        if put(store, server, &bundle.with_rotated(&files), revision).await? {
            return Ok(Ok(()));
        }
    }
    bail!("the masters' keys change all the time")
}

/// Takes over every change, as long as the store goes on.
pub async fn follow(store: Store, server: std::path::PathBuf, pki: Pki) {
    // Files have changed that are not taken over yet.
    let mut due = false;
    loop {
        match follow_once(&store, &server, &pki, &mut due).await {
            Err(error) if is_over(&error) => return,
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "the masters' keys are read anew"
            ),
            Ok(()) => return,
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn is_over(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(raft_store::Error::Stopped))
}

async fn follow_once(store: &Store, server: &Path, pki: &Pki, due: &mut bool) -> Result<()> {
    let mut changes = store.watch(WatchRequest {
        range: KeyRange::single(Bytes::from_static(KEY)),
        ..WatchRequest::default()
    })?;
    loop {
        // Read after the watch has begun, so that none is missed.
        *due |= adopt(store, server).await?;
        if *due {
            tracing::info!("the cluster's CA or keys have changed: taking them over");
            pki.reload()?;
            *due = false;
        }
        if changes.next().await.is_err() {
            // Closed or compacted away: a read says which. What it finds new is due.
            *due |= adopt(store, server).await?;
            bail!("the watch broke off");
        }
    }
}

async fn kept(store: &Store, server: &Path) -> Result<Option<Kept>> {
    let Some(kv) = read(store, false).await? else {
        return Ok(None);
    };
    let token = server_token::read_or_create(server)?;
    let bundle = match seal::open(&token.bootstrap.secret, &kv.value) {
        Ok(plain) => Some(Bundle::from_json(&plain)?),
        Err(_) => None,
    };
    Ok(Some(Kept {
        bundle,
        revision: kv.mod_revision,
    }))
}

/// Whether it was put: not if the entry is another than that of `revision`, 0 for none.
async fn put(store: &Store, server: &Path, bundle: &Bundle, revision: i64) -> Result<bool> {
    let token = server_token::read_or_create(server)?;
    let range = KeyRange::single(Bytes::from_static(KEY));
    let compare = Compare {
        range,
        op: CompareOp::Equal,
        target: CompareTarget::ModRevision(revision),
    };
    let put = PutRequest {
        key: Bytes::from_static(KEY),
        value: seal::seal(&token.bootstrap.secret, &bundle.to_json())?.into(),
        ..PutRequest::default()
    };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp::Put(put)],
        ..TxnRequest::default()
    };
    Ok(store.txn(txn).await?.succeeded)
}

async fn read(store: &Store, serializable: bool) -> Result<Option<KeyValue>> {
    let request = RangeRequest {
        range: KeyRange::single(Bytes::from_static(KEY)),
        serializable,
        ..RangeRequest::default()
    };
    let answer = store.range(request).await?;
    Ok(answer.kvs.into_iter().next())
}

/// Takes the keys out of the store in `server` and writes them as files, where they are missing.
pub async fn recover(server: &Path, token: &JoinToken) -> Result<()> {
    let store = Store::open(Config::new(server.join("store"))).await?;
    let sealed = read(&store, true).await;
    store.shutdown().await;
    let sealed = sealed?.context("the store holds no keys of a cluster's masters")?;
    let plain = seal::open(&token.bootstrap.secret, &sealed.value).context(
        "the cluster's keys cannot be opened: --token must be the server token, which was in DATA_DIR/server/token",
    )?;
    let bundle = Bundle::from_json(&plain)?;
    ensure!(
        bundle.had_ca(&token.ca_hash)?,
        "the store is of another cluster than the token: it never had a CA with the hash {}",
        hex::encode(token.ca_hash)
    );
    bundle.write(server)
}
