//! The Lease objects by which tools see who schedules and who controls, as upstream's components write them.
//!
//! They follow leadership and never decide it: that is the store's affair. It must not know how leadership is won.

use std::sync::Arc;
use std::time::Duration;

use api_client::{Backend, Client, User, is_not_found};
use bytes::Bytes;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use api_machinery::Status;

const NAMESPACE: &str = "kube-system";
/// How long a renewal holds, in seconds: upstream's `--leader-elect-lease-duration`.
const DURATION_SECONDS: i32 = 15;
/// How often it is renewed: as late as a reader tolerates, since nothing depends on it.
const RENEW_PERIOD: Duration = Duration::from_secs(10);
/// Each component: the Lease's name, and with `system:` before it the user who writes it.
const COMPONENTS: [&str; 2] = ["kube-scheduler", "kube-controller-manager"];

/// Holds both Leases as `identity` until `term` ends.
pub async fn keep(
    backend: Arc<dyn Backend>,
    identity: String,
    fence: Option<Bytes>,
    term: CancellationToken,
) {
    let keep = COMPONENTS.map(|name| {
        let user = User::component(&format!("system:{name}"));
        let client = Client::new(backend.clone(), user).fenced(fence.clone());
        keep_one(client, name, &identity)
    });
    tokio::select! {
        _ = futures::future::join_all(keep) => {}
        () = term.cancelled() => {}
    }
}

async fn keep_one(client: Client, name: &str, identity: &str) {
    let mut ticks = tokio::time::interval(RENEW_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(status) = renew(&client, name, identity).await {
            tracing::info!(%status, lease = name, "the lease was not renewed");
        }
    }
}

async fn renew(client: &Client, name: &str, identity: &str) -> Result<(), Status> {
    let now = Timestamp::now();
    match client.get::<Lease>(Some(NAMESPACE), name).await {
        Ok(mut lease) => {
            lease.spec = Some(renewed(lease.spec.unwrap_or_default(), identity, now));
            client.update(&lease).await.map(drop)
        }
        Err(status) if is_not_found(&status) => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    ..Default::default()
                },
                spec: Some(renewed(LeaseSpec::default(), identity, now)),
            };
            client.create(Some(NAMESPACE), &lease).await.map(drop)
        }
        Err(status) => Err(status),
    }
}

/// The Lease as `identity` holds it from `now` on. A new holder counts as a transition, the first one does not.
fn renewed(before: LeaseSpec, identity: &str, now: Timestamp) -> LeaseSpec {
    let same = before.holder_identity.as_deref() == Some(identity);
    let transitions = match (&before.holder_identity, same) {
        (None, _) => 0,
        (Some(_), true) => before.lease_transitions.unwrap_or(0),
        (Some(_), false) => before.lease_transitions.unwrap_or(0) + 1,
    };
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        acquire_time: before
            .acquire_time
            .filter(|_| same)
            .or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_holder_is_a_transition() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let check = |before: LeaseSpec, identity, second, acquired, transitions| {
            let spec = renewed(before, identity, at(second));
            assert_eq!(spec.acquire_time, Some(MicroTime(at(acquired))));
            assert_eq!(spec.renew_time, Some(MicroTime(at(second))));
            assert_eq!(spec.lease_transitions, Some(transitions));
            spec
        };
        let first = check(LeaseSpec::default(), "a", 1, 1, 0);
        let again = check(first, "a", 2, 1, 0);
        check(again, "b", 3, 3, 1);
    }
}
