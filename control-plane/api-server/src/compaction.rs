//! Forgets the store's history that is older than five minutes, as kube-apiserver does.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often history is compacted, and how much of it is kept.
const INTERVAL: Duration = Duration::from_secs(300);

/// Runs until `stop`. Several API servers may do so at once: compacting twice is harmless.
pub(crate) async fn run(store: Arc<dyn Store>, stop: CancellationToken) {
    let mut last = *store.applied().borrow();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if last > 0
            && let Err(error) = store.compact(last).await
        {
            tracing::debug!(%error, revision = last, "history could not be compacted");
        }
        last = *store.applied().borrow();
    }
}
