//! Scheduler and controllers run where leadership is, and only as long as it lasts.
//!
//! Leadership comes and goes inside the process; losing it never ends the process. Each term starts with informers of
//! its own and gives its fence to every write, so that what a deposed leader still has under way is refused by the store.

use std::sync::Arc;

use api_client::{Backend, Client, Informers, User};
use api_server::{ObjectReader, aggregate_cluster_roles, keep_quotas};
use bytes::Bytes;
use controllers::Options;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control_plane::superuser;
use crate::endpoints::LivingMasters;
use crate::{component_leases, endpoints};

/// The fence of the term that this process leads in; none while it does not lead.
pub type Leadership = watch::Receiver<Option<Bytes>>;

/// Follows leadership as `identity` until `shutdown` is cancelled; returns when everything has stopped.
pub async fn follow(
    backend: Arc<dyn Backend>,
    reader: Arc<dyn ObjectReader>,
    mut options: watch::Receiver<Options>,
    identity: String,
    mut leadership: Leadership,
    living: LivingMasters,
    shutdown: CancellationToken,
) {
    loop {
        let fence = leadership.borrow_and_update().clone();
        let term = shutdown.child_token();
        let told = options.borrow_and_update().clone();
        let work = async {
            if let Some(fence) = fence {
                let options = told;
                let living = living.clone();
                lead(
                    &backend,
                    &reader,
                    options,
                    &identity,
                    fence,
                    living,
                    term.clone(),
                )
                .await;
            }
        };
        let ended = async {
            tokio::select! {
                changed = leadership.changed() => changed.is_err(),
                // A few times in a cluster's life: all begin anew with them.
                Ok(()) = options.changed() => false,
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

async fn lead(
    backend: &Arc<dyn Backend>,
    reader: &Arc<dyn ObjectReader>,
    options: Options,
    identity: &str,
    fence: Bytes,
    living: LivingMasters,
    term: CancellationToken,
) {
    tracing::info!("leading: starting scheduler and controllers");
    let informers = Informers::new(backend.clone());
    let fence = Some(fence);
    let itself = Client::new(backend.clone(), superuser()).fenced(fence.clone());
    tokio::join!(
        endpoints::keep(itself, living, term.clone()),
        controllers::run_all(
            backend.clone(),
            informers.clone(),
            options,
            fence.clone(),
            term.clone()
        ),
        scheduler::run(
            backend.clone(),
            informers.clone(),
            fence.clone(),
            term.clone()
        ),
        component_leases::keep(
            backend.clone(),
            identity.to_owned(),
            fence.clone(),
            term.clone()
        ),
        keep_policies(backend, reader, fence, term),
    );
    informers.stop();
    tracing::info!("no longer leading: scheduler and controllers have stopped");
}

/// The loops that belong to the API server's own policies: usage of quotas, aggregated cluster roles.
async fn keep_policies(
    backend: &Arc<dyn Backend>,
    reader: &Arc<dyn ObjectReader>,
    fence: Option<Bytes>,
    term: CancellationToken,
) {
    let client = Client::new(
        backend.clone(),
        User::component("system:kube-controller-manager"),
    )
    .fenced(fence);
    let both = async {
        tokio::join!(
            keep_quotas(client.clone(), reader.clone()),
            aggregate_cluster_roles(client, reader.clone())
        )
    };
    tokio::select! {
        ended = both => tracing::error!(?ended, "quotas and aggregated roles are not kept any more"),
        () = term.cancelled() => {}
    }
}
