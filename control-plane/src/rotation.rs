//! What follows on a change of the cluster's CA or of the service-account key: the objects that tell it, and the
//! controllers, which sign with it. Scheduler and controllers begin anew on it, as with a new term.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api_client::Client;
use api_server::{ObjectReader, Pki, ensure_security_objects};
use controllers::Options;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster_settings;
use crate::config::ControlPlaneConfig;
use crate::control_plane;

/// The wait before objects are written again that could not be.
const RETRY: Duration = Duration::from_secs(1);

/// All that must hear of a change.
pub(crate) struct Rotation {
    pub pki: Pki,
    /// Where the CA's key lies.
    pub tls: PathBuf,
    /// Of this server.
    pub url: String,
    pub admin: Client,
    pub reader: Arc<dyn ObjectReader>,
    pub options: watch::Sender<Options>,
    pub config: ControlPlaneConfig,
}

/// Takes every change over until `stop`.
pub(crate) async fn follow(
    rotation: Rotation,
    mut reloads: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    let work = async {
        // What changed since the start read it is taken over, too.
        let mut told = true;
        loop {
            rotation.take_over();
            tokio::select! {
                changed = reloads.changed() => match changed {
                    Ok(()) => told = false,
                    Err(_) => return,
                },
                // A further change does not wait for objects that cannot be written.
                () = rotation.tell(), if !told => told = true,
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

impl Rotation {
    fn take_over(&self) {
        let cidr = self.options.borrow().cluster_cidrs[0];
        match control_plane::options(&self.config, cidr, &self.pki, &self.tls) {
            Ok(options) => {
                self.options.send_if_modified(|held| {
                    let differs = held.root_ca_pem != options.root_ca_pem;
                    *held = options;
                    differs
                });
            }
            Err(error) => tracing::error!(%error, "the CA cannot sign"),
        }
    }

    async fn tell(&self) {
        while let Err(status) = self.try_tell().await {
            tracing::warn!(%status, "the change of certificates cannot be told yet; trying again");
            tokio::time::sleep(RETRY).await;
        }
        tracing::info!("the cluster's CA and keys were taken over");
    }

    async fn try_tell(&self) -> Result<(), api_machinery::Status> {
        ensure_security_objects(&self.admin, &self.reader, &self.pki, &self.url).await?;
        cluster_settings::ensure(&self.admin, &self.config, &self.pki.ca_pem()).await
    }
}
