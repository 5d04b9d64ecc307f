//! The proxy's edge: waits for changes, hands transactions to `nft`, clears connection tracking of removed UDP endpoints.
//!
//! It must not decide what the rules are.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ruleset::{Desired, TABLE, build};
use super::text::{Ruleset, difference, full};
use super::{HostPort, ProxyConfig, ProxyError};
use crate::network::{
    NetworkError, ServiceCache, TableWatch, apply_nft, check_tools, forget_udp_flows,
};

/// The first delay after a refused transaction; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest delay after a refused transaction.
const MAX_RETRY: Duration = Duration::from_secs(30);

pub(super) async fn run(
    cache: Arc<ServiceCache>,
    config: ProxyConfig,
    mut host_ports: watch::Receiver<Vec<HostPort>>,
    shutdown: CancellationToken,
) -> Result<(), ProxyError> {
    check_tools()?;
    let mut progress = cache.progress();
    let synced = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        synced = progress.wait_for(|progress| progress.synced()) => synced.is_ok(),
    };
    if !synced {
        return Ok(());
    }
    let mut kernel = Kernel::default();
    let mut tables = TableWatch::new().map_err(|source| NetworkError::File {
        action: "cannot open",
        path: "netlink socket".into(),
        source,
    })?;
    let mut retry = FIRST_RETRY;
    loop {
        progress.borrow_and_update();
        let desired = {
            let host_ports = host_ports.borrow_and_update();
            build(&cache.state(), &config, &host_ports)
        };
        let failed = match kernel.bring_to(desired).await {
            Ok(()) => false,
            Err(error) => {
                tracing::error!(%error, retry_in = ?retry, "service rules were not applied");
                true
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(retry), if failed => retry = (retry * 2).min(MAX_RETRY),
            changed = progress.changed() => if changed.is_err() { return Ok(()) },
            Ok(()) = host_ports.changed() => {}
            () = tables.gone(TABLE), if !failed => {
                tracing::warn!("the service rules were deleted; putting them back");
                kernel = Kernel::default();
            }
        }
        if !failed {
            retry = FIRST_RETRY;
        }
    }
}

/// What the kernel was last told.
#[derive(Default)]
pub(super) struct Kernel {
    applied: Option<Desired>,
}

impl Kernel {
    /// From what there is to what is wanted. What is unknown or refused is replaced as a whole.
    pub(super) async fn bring_to(&mut self, desired: Desired) -> Result<(), NetworkError> {
        let before = self.applied.take();
        match &before {
            Some(before) if before.ruleset == desired.ruleset => {}
            Some(before) => {
                if let Err(error) = change(&before.ruleset, &desired.ruleset).await {
                    tracing::warn!(%error, "replacing all service rules");
                    apply_nft("xebec", &full(TABLE, &desired.ruleset)).await?;
                }
            }
            None => apply_nft("xebec", &full(TABLE, &desired.ruleset)).await?,
        }
        let before = before.map(|before| before.udp);
        // After a start nobody knows what was there before: everything is checked.
        if before
            .as_ref()
            .is_none_or(|before| desired.udp.lost_since(before))
        {
            let (before, now) = (before.unwrap_or_default(), desired.udp.clone());
            let forget = move || {
                forget_udp_flows(|flow| now.is_stale(&before, flow.destination, flow.endpoint))
            };
            match tokio::task::spawn_blocking(forget).await {
                Ok(Ok(0)) => {}
                Ok(Ok(flows)) => tracing::debug!(flows, "forgot UDP flows to removed endpoints"),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot clear connection tracking of removed UDP endpoints")
                }
                Err(error) => tracing::error!(%error, "clearing connection tracking failed"),
            }
        }
        self.applied = Some(desired);
        Ok(())
    }
}

async fn change(old: &Ruleset, new: &Ruleset) -> Result<(), NetworkError> {
    for step in difference(TABLE, old, new) {
        apply_nft("xebec", &step).await?;
    }
    Ok(())
}
