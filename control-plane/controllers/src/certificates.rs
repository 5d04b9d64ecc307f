//! CertificateSigningRequests: approves what nodes ask for themselves, signs what was approved, and clears away the rest.
//!
//! Three controllers over one kind; `request` reads what is asked for, `signing` makes the certificate.

mod approval;
mod cleaning;
mod request;
mod signing;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

pub(crate) use approval::{
    start_client as start_client_approval, start_serving as start_serving_approval,
};
pub(crate) use cleaning::start as start_cleaning;
pub(crate) use signing::start as start_signing;

const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

fn has_condition(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request
        .status
        .iter()
        .filter_map(|s| s.conditions.as_ref())
        .flatten();
    conditions
        .into_iter()
        .any(|c| c.type_ == kind && c.status != "False")
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    request
        .status
        .as_ref()
        .and_then(|s| s.certificate.as_ref())
        .is_some_and(|c| !c.0.is_empty())
}
