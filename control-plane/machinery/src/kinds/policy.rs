//! Network and availability: `networking.k8s.io`, `discovery.k8s.io`, `policy`.

use super::row::{cluster, namespaced};
use crate::kind::Kind;

const NETWORKING: &str = "networking.k8s.io";

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        namespaced("discovery.k8s.io", "EndpointSlice", "endpointslices").keeps_generation(),
        cluster(NETWORKING, "IngressClass", "ingressclasses").keeps_generation(),
        namespaced(NETWORKING, "Ingress", "ingresses")
            .short(&["ing"])
            .keeps_generation()
            .stored_at("ingress")
            .status(),
        cluster(NETWORKING, "IPAddress", "ipaddresses").short(&["ip"]),
        namespaced(NETWORKING, "NetworkPolicy", "networkpolicies")
            .short(&["netpol"])
            .keeps_generation(),
        cluster(NETWORKING, "ServiceCIDR", "servicecidrs").status(),
        namespaced("policy", "PodDisruptionBudget", "poddisruptionbudgets")
            .short(&["pdb"])
            .keeps_generation()
            .status(),
    ]
}
