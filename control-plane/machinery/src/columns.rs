//! Which columns a kind is shown in: one row per kind, one file per family.
//!
//! Kinds without a row show name and creation time, as upstream's do.

mod access;
mod autoscaling;
mod cells;
mod config;
mod network;
mod node;
mod pod;
mod policy;
mod resource;
mod server;
mod storage;
mod workload;

use serde_json::Value;

use crate::table::Column;
use crate::time::Timestamp;

/// The columns of one kind.
#[derive(Debug)]
pub struct ColumnSet {
    pub columns: &'static [Column],
    /// The cells of an object in its stored form, one per column, at an instant.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// What a row says about its object as a whole, such as that a pod has completed.
    pub conditions: fn(&Value) -> Vec<Value>,
}

impl ColumnSet {
    const fn new(
        columns: &'static [Column],
        cells: fn(&Value, Timestamp) -> Vec<Value>,
    ) -> ColumnSet {
        ColumnSet {
            columns,
            cells,
            conditions: |_| Vec::new(),
        }
    }
}

const NAME: Column =
    Column::text("Name", "Name of the object, unique within its namespace.").named();
const AGE: Column = Column::text("Age", "Time since the object was created.");

static DEFAULT: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Created At", "When the object was created.").dated(),
    ],
    |object, _| cells::name_and_creation(object),
);

const CORE: &str = "";
const APPS: &str = "apps";
const BATCH: &str = "batch";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOWCONTROL: &str = "flowcontrol.apiserver.k8s.io";
const RESOURCE: &str = "resource.k8s.io";

static TABLE: &[(&str, &str, &ColumnSet)] = &[
    (CORE, "Pod", &pod::POD),
    (CORE, "PodTemplate", &pod::POD_TEMPLATE),
    (
        CORE,
        "ReplicationController",
        &workload::REPLICATION_CONTROLLER,
    ),
    (APPS, "ReplicaSet", &workload::REPLICA_SET),
    (APPS, "Deployment", &workload::DEPLOYMENT),
    (APPS, "StatefulSet", &workload::STATEFUL_SET),
    (APPS, "DaemonSet", &workload::DAEMON_SET),
    (APPS, "ControllerRevision", &workload::CONTROLLER_REVISION),
    (BATCH, "Job", &workload::JOB),
    (BATCH, "CronJob", &workload::CRON_JOB),
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        &autoscaling::HORIZONTAL_POD_AUTOSCALER,
    ),
    ("autoscaling", "Scale", &autoscaling::SCALE),
    (
        "policy",
        "PodDisruptionBudget",
        &policy::POD_DISRUPTION_BUDGET,
    ),
    (CORE, "ResourceQuota", &policy::RESOURCE_QUOTA),
    (
        "scheduling.k8s.io",
        "PriorityClass",
        &policy::PRIORITY_CLASS,
    ),
    (CORE, "Service", &network::service::SERVICE),
    (CORE, "Endpoints", &network::endpoints::ENDPOINTS),
    (
        "discovery.k8s.io",
        "EndpointSlice",
        &network::endpoints::ENDPOINT_SLICE,
    ),
    (NETWORKING, "Ingress", &network::ingress::INGRESS),
    (NETWORKING, "IngressClass", &network::ingress::INGRESS_CLASS),
    (NETWORKING, "NetworkPolicy", &network::NETWORK_POLICY),
    (NETWORKING, "ServiceCIDR", &network::SERVICE_CIDR),
    (NETWORKING, "IPAddress", &network::IP_ADDRESS),
    (CORE, "Node", &node::NODE),
    (CORE, "ComponentStatus", &node::COMPONENT_STATUS),
    ("node.k8s.io", "RuntimeClass", &node::RUNTIME_CLASS),
    ("coordination.k8s.io", "Lease", &node::LEASE),
    (CORE, "Namespace", &config::NAMESPACE),
    (CORE, "ConfigMap", &config::CONFIG_MAP),
    (CORE, "Secret", &config::SECRET),
    (CORE, "ServiceAccount", &config::SERVICE_ACCOUNT),
    (CORE, "Event", &config::EVENT),
    ("events.k8s.io", "Event", &config::EVENT),
    (RBAC, "RoleBinding", &access::BINDING),
    (RBAC, "ClusterRoleBinding", &access::BINDING),
    (
        "certificates.k8s.io",
        "CertificateSigningRequest",
        &access::SIGNING_REQUEST,
    ),
    (CORE, "PersistentVolume", &storage::PERSISTENT_VOLUME),
    (
        CORE,
        "PersistentVolumeClaim",
        &storage::PERSISTENT_VOLUME_CLAIM,
    ),
    (STORAGE, "StorageClass", &storage::STORAGE_CLASS),
    (
        STORAGE,
        "VolumeAttributesClass",
        &storage::VOLUME_ATTRIBUTES_CLASS,
    ),
    (STORAGE, "VolumeAttachment", &storage::VOLUME_ATTACHMENT),
    (STORAGE, "CSIDriver", &storage::CSI_DRIVER),
    (STORAGE, "CSINode", &storage::CSI_NODE),
    (
        STORAGE,
        "CSIStorageCapacity",
        &storage::CSI_STORAGE_CAPACITY,
    ),
    (
        ADMISSION,
        "MutatingWebhookConfiguration",
        &server::WEBHOOK_CONFIGURATION,
    ),
    (
        ADMISSION,
        "ValidatingWebhookConfiguration",
        &server::WEBHOOK_CONFIGURATION,
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicy",
        &server::VALIDATING_POLICY,
    ),
    (
        ADMISSION,
        "MutatingAdmissionPolicy",
        &server::MUTATING_POLICY,
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        &server::POLICY_BINDING,
    ),
    (
        ADMISSION,
        "MutatingAdmissionPolicyBinding",
        &server::POLICY_BINDING,
    ),
    ("apiregistration.k8s.io", "APIService", &server::API_SERVICE),
    (FLOWCONTROL, "FlowSchema", &server::FLOW_SCHEMA),
    (
        FLOWCONTROL,
        "PriorityLevelConfiguration",
        &server::PRIORITY_LEVEL,
    ),
    (RESOURCE, "DeviceClass", &resource::NAME_AND_AGE),
    (RESOURCE, "ResourceClaim", &resource::RESOURCE_CLAIM),
    (RESOURCE, "ResourceClaimTemplate", &resource::NAME_AND_AGE),
    (RESOURCE, "ResourceSlice", &resource::RESOURCE_SLICE),
];

/// The columns of a kind.
pub(crate) fn find(group: &str, kind: &str) -> &'static ColumnSet {
    TABLE
        .iter()
        .find(|(g, k, _)| *g == group && *k == kind)
        .map_or(&DEFAULT, |(_, _, set)| set)
}

#[cfg(test)]
mod tests {
    use crate::kind::KindTable;

    use super::*;

    #[test]
    fn every_row_names_a_kind() {
        let kinds = KindTable::builtin();
        for (group, kind, _) in TABLE {
            assert!(
                *kind == "Scale" || kinds.kind(group, kind).is_some(),
                "{group} {kind}"
            );
        }
    }
}

#[cfg(test)]
mod check;
