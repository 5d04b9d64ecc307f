//! The node's Lease: renewed every ten seconds, so that the cluster knows that the node lives without reading its status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff;
use kube::api::{Api, PostParams};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::self_fence::Contact;

/// Where all nodes' Leases are.
const NAMESPACE: &str = "kube-node-lease";
/// How long a renewal holds, in seconds, as the kubelet's.
const DURATION_SECONDS: i32 = 40;
/// How often it is renewed: a quarter of its time.
const RENEW_PERIOD: Duration = Duration::from_secs(10);
/// Wait after a renewal that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Renews the Lease until `shutdown`, and tells `contact` of each success, `back` of the first after a failure.
pub(crate) async fn renew(
    client: kube::Client,
    node: Node,
    contact: Option<Contact>,
    back: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut held: Option<Lease> = None;
    let mut failed = false;
    loop {
        let asked = Instant::now();
        let pause = match renew_once(&api, &node, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                if let Some(contact) = &contact {
                    contact.made(asked);
                }
                if std::mem::take(&mut failed) {
                    back.notify_one();
                }
                RENEW_PERIOD
            }
            Err(error) => {
                tracing::info!(
                    error = api::message(&error),
                    "cannot renew the node's lease"
                );
                failed = true;
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn renew_once(
    api: &Api<Lease>,
    node: &Node,
    held: Option<Lease>,
) -> Result<Lease, kube::Error> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let known = match held {
        Some(lease) => Some(lease),
        None => api.get_opt(&name).await?,
    };
    let Some(mut lease) = known else {
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..Default::default()
        };
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            owner_references: Some(vec![owner]),
            ..Default::default()
        };
        return api
            .create(
                &PostParams::default(),
                &Lease {
                    metadata,
                    spec: Some(renewed(&name)),
                },
            )
            .await;
    };
    lease.spec = Some(renewed(&name));
    api.replace(&name, &PostParams::default(), &lease).await
}

fn renewed(name: &str) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(name.into()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..Default::default()
    }
}
