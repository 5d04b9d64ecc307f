//! Approves certificates that nodes ask for: their first one, their own again, and serving certificates for addresses
//! that the node is known to have.
//!
//! Client and serving certificates are two rows with an identity each: Kubernetes' own controller may not approve serving
//! certificates, and an administrator who wants that decision back takes the second one's role away.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api_client::{Client, Informer, ObjectKey};
use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::request::{Asked, check, is_self, node_name, read};
use super::{KUBELET_CLIENT, KUBELET_SERVING, has_condition, is_issued};
use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::{Error, Outcome};

const SELF_NODE: (&str, &str) = (
    "selfnodeclient",
    "Auto approving self kubelet client certificate after SubjectAccessReview.",
);
const NODE: (&str, &str) = (
    "nodeclient",
    "Auto approving kubelet client certificate after SubjectAccessReview.",
);
const SERVING: &str = "Auto approving kubelet serving certificate for the node's own addresses.";

pub(crate) fn start_client(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    start(context, queue, KUBELET_CLIENT)
}

pub(crate) fn start_serving(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    start(context, queue, KUBELET_SERVING)
}

fn start(context: &Context, queue: &Queue, signer: &'static str) -> Arc<dyn Controller> {
    let requests = context.informer::<CertificateSigningRequest>();
    enqueue_on_change(&requests, queue);
    Arc::new(Approval {
        context: context.clone(),
        signer,
        requests,
        nodes: context.informer(),
    })
}

struct Approval {
    context: Context,
    /// Requests to other signers are none of its business.
    signer: &'static str,
    requests: Informer<CertificateSigningRequest>,
    nodes: Informer<Node>,
}

#[async_trait]
impl Controller for Approval {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(request) = self.requests.get(key) else {
            return Ok(());
        };
        if is_issued(&request)
            || has_condition(&request, "Approved")
            || has_condition(&request, "Denied")
        {
            return Ok(());
        }
        let signer = request.spec.signer_name.as_str();
        if signer != self.signer {
            return Ok(());
        }
        let asked = read(&request)?;
        if check(
            signer,
            &asked,
            request.spec.usages.as_deref().unwrap_or_default(),
        )
        .is_err()
        {
            return Ok(());
        }
        if signer == KUBELET_SERVING {
            return self.serving(&request, &asked).await;
        }
        let candidates = if is_self(&request, &asked) {
            vec![SELF_NODE, NODE]
        } else {
            vec![NODE]
        };
        for (subresource, message) in candidates {
            if may(&self.context.client, &request, subresource).await? {
                return self.approve(&request, message).await;
            }
        }
        Err(Error::NotReady(format!(
            "recognized csr \"{}\" but subject access review was not approved",
            key.name
        )))
    }
}

impl Approval {
    async fn serving(&self, request: &CertificateSigningRequest, asked: &Asked) -> Outcome {
        if !is_self(request, asked) {
            return Ok(());
        }
        let node = node_name(asked).and_then(|name| self.nodes.get(&ObjectKey::new("", name)));
        match node {
            Some(node) if names_are_of(&node, asked) => self.approve(request, SERVING).await,
            // The node may post its addresses after it has asked.
            _ => Err(Error::NotReady(format!(
                "{} does not have all the names asked for yet",
                asked.common_name
            ))),
        }
    }

    async fn approve(&self, request: &CertificateSigningRequest, message: &str) -> Outcome {
        let mut request = request.clone();
        let now = Some(Time(self.context.now()));
        request
            .status
            .get_or_insert_default()
            .conditions
            .get_or_insert_default()
            .push(CertificateSigningRequestCondition {
                type_: "Approved".into(),
                status: "True".into(),
                reason: Some("AutoApproved".into()),
                message: Some(message.into()),
                last_update_time: now.clone(),
                last_transition_time: now,
            });
        self.context
            .client
            .update_subresource(&request, "approval")
            .await?;
        Ok(())
    }
}

/// Whether every name asked for is one of the node's addresses (or its name).
fn names_are_of(node: &Node, asked: &Asked) -> bool {
    let addresses: Vec<&str> = node
        .status
        .iter()
        .filter_map(|s| s.addresses.as_ref())
        .flatten()
        .map(|a| a.address.as_str())
        .chain(node.metadata.name.as_deref())
        .collect();
    let has_address = |ip: &IpAddr| {
        addresses
            .iter()
            .any(|text| text.parse::<IpAddr>().is_ok_and(|known| known == *ip))
    };
    asked
        .dns_names
        .iter()
        .all(|name| addresses.contains(&name.as_str()))
        && asked.addresses.iter().all(has_address)
}

/// Whether whoever asks may have such a certificate without a human's consent.
async fn may(
    client: &Client,
    request: &CertificateSigningRequest,
    subresource: &str,
) -> Outcome<bool> {
    let spec = &request.spec;
    let extra: Option<BTreeMap<String, Vec<String>>> = spec.extra.clone();
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra,
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                resource: Some("certificatesigningrequests".into()),
                verb: Some("create".into()),
                subresource: Some(subresource.into()),
                version: Some("*".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = client.create(None, &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_may_serve_under_its_own_names_only() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1.local"}]}}))
        .expect("a node");
        let check = |dns: &[&str], ips: &[&str], expect| {
            let asked = Asked {
                dns_names: dns.iter().map(|d| (*d).to_owned()).collect(),
                addresses: ips
                    .iter()
                    .map(|ip| ip.parse().expect("an address"))
                    .collect(),
                ..Asked::default()
            };
            assert_eq!(names_are_of(&node, &asked), expect, "{asked:?}");
        };
        check(&["n1", "n1.local"], &["10.0.0.1"], true);
        check(&["kubernetes.default.svc"], &["10.0.0.1"], false);
        check(&[], &["10.0.0.2"], false);
    }
}
