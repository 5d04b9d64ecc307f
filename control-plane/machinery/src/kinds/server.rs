//! What shapes the API server itself: `admissionregistration.k8s.io`, `apiextensions.k8s.io`, `apiregistration.k8s.io`,
//! `flowcontrol.apiserver.k8s.io`.

use super::row::cluster;
use crate::kind::Kind;

const ADMISSION: &str = "admissionregistration.k8s.io";
const APIEXTENSIONS: &str = "apiextensions.k8s.io";
const APIREGISTRATION: &str = "apiregistration.k8s.io";
const FLOWCONTROL: &str = "flowcontrol.apiserver.k8s.io";
const CATEGORY: &str = "api-extensions";

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        admission("MutatingAdmissionPolicy", "mutatingadmissionpolicies").hashed_as("v1beta1"),
        admission(
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
        )
        .hashed_as("v1beta1"),
        admission(
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
        ),
        admission("ValidatingAdmissionPolicy", "validatingadmissionpolicies").status(),
        admission(
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
        ),
        admission(
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
        ),
        cluster(
            APIEXTENSIONS,
            "CustomResourceDefinition",
            "customresourcedefinitions",
        )
        .short(&["crd", "crds"])
        .category(CATEGORY)
        .keeps_generation()
        .stored_at("apiextensions.k8s.io/customresourcedefinitions")
        .hashed_as("v1beta1")
        .status(),
        cluster(APIREGISTRATION, "APIService", "apiservices")
            .category(CATEGORY)
            .stored_at("apiregistration.k8s.io/apiservices")
            .status(),
        cluster(FLOWCONTROL, "FlowSchema", "flowschemas")
            .keeps_generation()
            .status(),
        cluster(
            FLOWCONTROL,
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
        )
        .keeps_generation()
        .status(),
    ]
}

fn admission(kind: &'static str, plural: &'static str) -> Kind {
    cluster(ADMISSION, kind, plural)
        .category(CATEGORY)
        .keeps_generation()
}
