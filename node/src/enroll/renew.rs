//! Keeps a node's certificates good: asks for the next ones before they expire, and follows a change of the cluster's CA.
//!
//! It asks through the agent's own client, which goes to any master that answers and reads the files anew with each connection.

use std::time::{Duration, SystemTime};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::request::{self, Purpose, Subject};
use super::{EnrollError, Enrolled, SETTINGS};

/// The first wait after a request that failed; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest wait after a request that failed.
const LAST_RETRY: Duration = Duration::from_secs(120);
/// The part of a certificate's lifetime after which the next one is asked for: 70 to 90 percent, as the kubelet.
const RENEW_AFTER_PERCENT: std::ops::Range<u32> = 70..90;
/// What the settings name the CAs to trust, PEM; the one that signs comes first.
const CA_SETTING: &str = "cluster-ca";

impl Enrolled {
    /// Asks for the next certificates in time, until `stop`. The files are replaced; whoever reads them again has the new ones.
    pub(crate) async fn keep_renewed(self, client: Client, stop: CancellationToken) {
        let changed = Notify::new();
        let all = async {
            tokio::join!(
                self.keep_one(&client, Purpose::Client, &changed),
                self.keep_one(&client, Purpose::Serving, &changed),
                self.follow_ca(&client, &changed),
            )
        };
        tokio::select! {
            _ = all => {}
            () = stop.cancelled() => {}
        }
    }

    /// Keeps the file of the CA as the cluster tells it, and wakes the renewals when it has changed.
    async fn follow_ca(&self, client: &Client, changed: &Notify) {
        let (namespace, name) = SETTINGS;
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let mut settings = std::pin::pin!(watch_object(api, name).default_backoff());
        while let Some(settings) = settings.next().await {
            let settings = match settings {
                Ok(settings) => settings.unwrap_or_default(),
                Err(error) => {
                    tracing::debug!(%error, "the cluster's CA is followed anew");
                    continue;
                }
            };
            let Some(ca) = settings.data.as_ref().and_then(|data| data.get(CA_SETTING)) else {
                continue;
            };
            match self.files.replace_ca(ca) {
                Ok(true) => {
                    tracing::info!("the cluster's CA has changed");
                    changed.notify_waiters();
                }
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the cluster's new CA is not taken over"),
            }
        }
    }

    async fn keep_one(&self, client: &Client, purpose: Purpose, changed: &Notify) {
        let mut retry = FIRST_RETRY;
        loop {
            let due = self.due(purpose, SystemTime::now());
            tokio::select! {
                () = tokio::time::sleep(due) => {}
                () = changed.notified() => continue,
            }
            match self.renew(client, purpose).await {
                Ok(()) => {
                    tracing::info!(?purpose, "the node has a new certificate");
                    // Whoever signs may not have the new CA yet.
                    if self.due(purpose, SystemTime::now()).is_zero() {
                        tokio::time::sleep(retry).await;
                        retry = (retry * 2).min(LAST_RETRY);
                    } else {
                        retry = FIRST_RETRY;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, ?purpose, retry_in = ?retry, "no new certificate");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// How long until the certificate is to be replaced; at once if it cannot be read, or is not of the cluster's CA.
    fn due(&self, purpose: Purpose, now: SystemTime) -> Duration {
        let certificate = match purpose {
            Purpose::Client => self.files.client_certificate(),
            Purpose::Serving => self.files.serving_certificate(),
        };
        let Ok(Some(certificate)) = certificate else {
            return Duration::ZERO;
        };
        if let Ok(Some(ca)) = self.files.ca_certificate()
            && certificate.is_of_another(&ca)
        {
            return Duration::ZERO;
        }
        if certificate.self_signed || !certificate.is_for(&self.config, purpose) {
            return Duration::ZERO;
        }
        let lifetime = certificate
            .not_after
            .duration_since(certificate.not_before)
            .unwrap_or_default();
        let percent = rand::Rng::random_range(&mut rand::rng(), RENEW_AFTER_PERCENT);
        let at = certificate.not_before + lifetime * percent / 100;
        at.duration_since(now).unwrap_or_default()
    }

    async fn renew(&self, client: &Client, purpose: Purpose) -> Result<(), EnrollError> {
        let subject = Subject::of(&self.config, purpose);
        let pair = request::certificate(client, &subject).await?;
        match purpose {
            Purpose::Client => self.files.write_client(&pair),
            Purpose::Serving => self.files.write_serving(&pair),
        }
    }
}
