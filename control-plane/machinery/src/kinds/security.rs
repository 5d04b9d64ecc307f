//! Who may do what: `rbac.authorization.k8s.io`, `certificates.k8s.io`.

use super::row::{cluster, namespaced};
use crate::kind::{Kind, Verbs};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        cluster(RBAC, "ClusterRoleBinding", "clusterrolebindings"),
        cluster(RBAC, "ClusterRole", "clusterroles"),
        namespaced(RBAC, "RoleBinding", "rolebindings"),
        namespaced(RBAC, "Role", "roles"),
        cluster(
            "certificates.k8s.io",
            "CertificateSigningRequest",
            "certificatesigningrequests",
        )
        .short(&["csr"])
        .own_sub("approval", Verbs::GET_PATCH_UPDATE)
        .status()
        .field("spec.signerName"),
    ]
}
