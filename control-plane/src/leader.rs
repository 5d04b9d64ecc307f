//! Scheduler and controllers run where leadership is, and only as long as it lasts.
//!
//! Leadership comes and goes inside the process; losing it never ends the process. Each term starts with informers of
//! its own and gives its fence to every write, so that what a deposed leader still has under way is refused by the store.

use std::sync::Arc;

use api_client::{Backend, Informers};
use bytes::Bytes;
use controllers::Options;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The fence of the term that this process leads in; none while it does not lead.
pub type Leadership = watch::Receiver<Option<Bytes>>;

/// Follows leadership until `shutdown` is cancelled; returns when everything has stopped.
pub async fn follow(
    backend: Arc<dyn Backend>,
    options: Options,
    mut leadership: Leadership,
    shutdown: CancellationToken,
) {
    loop {
        let fence = leadership.borrow_and_update().clone();
        let term = shutdown.child_token();
        let work = async {
            if let Some(fence) = fence {
                lead(backend.clone(), options.clone(), fence, term.clone()).await;
            }
        };
        let ended = async {
            tokio::select! {
                changed = leadership.changed() => changed.is_err(),
                () = shutdown.cancelled() => true,
            }
        };
        let (stop, ()) = tokio::join!(
            async {
                let stop = ended.await;
                term.cancel();
                stop
            },
            work
        );
        if stop {
            return;
        }
    }
}

async fn lead(backend: Arc<dyn Backend>, options: Options, fence: Bytes, term: CancellationToken) {
    tracing::info!("leading: starting scheduler and controllers");
    let informers = Informers::new(backend.clone());
    tokio::join!(
        controllers::run_all(
            backend.clone(),
            informers.clone(),
            options,
            Some(fence.clone()),
            term.clone()
        ),
        scheduler::run(backend, informers.clone(), Some(fence), term),
    );
    informers.stop();
    tracing::info!("no longer leading: scheduler and controllers have stopped");
}
