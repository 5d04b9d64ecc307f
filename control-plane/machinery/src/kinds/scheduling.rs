//! Where and how pods run: `scheduling.k8s.io`, `node.k8s.io`, `coordination.k8s.io`, `resource.k8s.io`.

use super::row::{cluster, namespaced};
use crate::kind::Kind;

const RESOURCE: &str = "resource.k8s.io";

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        cluster("scheduling.k8s.io", "PriorityClass", "priorityclasses")
            .short(&["pc"])
            .keeps_generation(),
        cluster("node.k8s.io", "RuntimeClass", "runtimeclasses"),
        namespaced("coordination.k8s.io", "Lease", "leases"),
        cluster(RESOURCE, "DeviceClass", "deviceclasses").keeps_generation(),
        namespaced(RESOURCE, "ResourceClaim", "resourceclaims").status(),
        namespaced(RESOURCE, "ResourceClaimTemplate", "resourceclaimtemplates"),
        cluster(RESOURCE, "ResourceSlice", "resourceslices")
            .keeps_generation()
            .field("spec.nodeName")
            .field("spec.driver"),
    ]
}
