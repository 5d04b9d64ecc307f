//! What is particular to one kind: defaults, what clients may not set, validation, update rules.
//!
//! The pipeline handles every kind alike; where Kubernetes treats a kind in a way of its own, that kind has a file in
//! `rules/` that implements [`Rules`] and a row in [`TABLE`]. Every method's default is what most kinds do. Rules are pure:
//! they read nothing but their arguments.

mod access;
mod autoscaling;
mod checks;
mod config;
mod container_checks;
mod cron_job;
mod daemon_set;
mod deployment;
mod event;
mod job;
mod namespace;
mod network;
mod pod;
mod pod_checks;
mod pod_defaults;
mod policy;
mod probe_checks;
mod replicas;
mod schedule;
mod server;
mod service;
mod service_checks;
mod service_defaults;
mod stateful_set;
mod values;
mod volume;
mod volume_checks;
mod volume_defaults;

use api_machinery::FieldError;
use serde_json::Value;

/// The rules of one kind. Objects are in the storage version, defaulted by the schema, with well-formed metadata.
pub trait Rules: Send + Sync {
    /// Defaults that the schema cannot express (they depend on other fields). Runs on every object decoded from a
    /// client, after the schema's own defaults.
    fn default(&self, _object: &mut Value) {}

    /// Sets and clears what is the server's own. `status` is gone already where it is a subresource.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Sets and clears what is the server's own. `status` is the old one already where it is a subresource.
    fn prepare_update(&self, _object: &mut Value, _old: &Value) {}

    /// For an update through `/status`: all but `status` and metadata is the old one already.
    fn prepare_status_update(&self, _object: &mut Value, _old: &Value) {}

    fn validate_create(&self, _object: &Value, _errors: &mut Vec<FieldError>) {}

    /// Also responsible for what [`Rules::validate_create`] checks, as far as an update could break it.
    fn validate_update(&self, object: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        self.validate_create(object, errors);
    }

    fn validate_status_update(&self, _object: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {
    }

    /// Sentences for the user's `Warning` headers.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }
}

/// The rules of kinds that have none of their own.
struct Plain;

impl Rules for Plain {}

/// One row: group, kind, rules.
type Row = (&'static str, &'static str, &'static dyn Rules);

const CORE: &str = "";
const APPS: &str = "apps";
const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOWCONTROL: &str = "flowcontrol.apiserver.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// Kinds with rules of their own.
const TABLE: &[Row] = &[
    (CORE, "ConfigMap", &config::ConfigMap),
    (CORE, "Endpoints", &network::Endpoints),
    (CORE, "Event", &event::Event),
    ("events.k8s.io", "Event", &event::Event),
    (CORE, "LimitRange", &policy::LimitRange),
    (CORE, "Namespace", &namespace::Namespace),
    (CORE, "Node", &server::Node),
    (CORE, "PersistentVolume", &volume::PersistentVolume),
    (
        CORE,
        "PersistentVolumeClaim",
        &volume::PersistentVolumeClaim,
    ),
    (CORE, "Pod", &pod::Pod),
    (CORE, "PodTemplate", &pod::PodTemplate),
    (
        CORE,
        "ReplicationController",
        &replicas::ReplicationController,
    ),
    (CORE, "ResourceQuota", &policy::ResourceQuota),
    (CORE, "Secret", &config::Secret),
    (CORE, "Service", &service::Service),
    (APPS, "DaemonSet", &daemon_set::DaemonSet),
    (APPS, "Deployment", &deployment::Deployment),
    (APPS, "ReplicaSet", &replicas::ReplicaSet),
    (APPS, "StatefulSet", &stateful_set::StatefulSet),
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        &autoscaling::HorizontalPodAutoscaler,
    ),
    ("batch", "CronJob", &cron_job::CronJob),
    ("batch", "Job", &job::Job),
    (
        "certificates.k8s.io",
        "CertificateSigningRequest",
        &access::SigningRequest,
    ),
    ("coordination.k8s.io", "Lease", &server::Lease),
    ("discovery.k8s.io", "EndpointSlice", &network::EndpointSlice),
    (FLOWCONTROL, "FlowSchema", &server::FlowSchema),
    (
        FLOWCONTROL,
        "PriorityLevelConfiguration",
        &server::PriorityLevel,
    ),
    (NETWORKING, "Ingress", &network::Ingress),
    (NETWORKING, "IngressClass", &network::IngressClass),
    (NETWORKING, "NetworkPolicy", &network::NetworkPolicy),
    ("node.k8s.io", "RuntimeClass", &server::RuntimeClass),
    (
        "policy",
        "PodDisruptionBudget",
        &policy::PodDisruptionBudget,
    ),
    (RBAC, "ClusterRole", &access::Role { namespaced: false }),
    (
        RBAC,
        "ClusterRoleBinding",
        &access::RoleBinding { namespaced: false },
    ),
    (RBAC, "Role", &access::Role { namespaced: true }),
    (
        RBAC,
        "RoleBinding",
        &access::RoleBinding { namespaced: true },
    ),
    ("scheduling.k8s.io", "PriorityClass", &policy::PriorityClass),
    (STORAGE, "CSIDriver", &server::CsiDriver),
    (STORAGE, "StorageClass", &volume::StorageClass),
    (
        ADMISSION,
        "MutatingAdmissionPolicy",
        &server::AdmissionPolicy,
    ),
    (
        ADMISSION,
        "MutatingAdmissionPolicyBinding",
        &server::AdmissionPolicyBinding,
    ),
    (
        ADMISSION,
        "MutatingWebhookConfiguration",
        &server::Webhooks { mutating: true },
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicy",
        &server::AdmissionPolicy,
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        &server::AdmissionPolicyBinding,
    ),
    (
        ADMISSION,
        "ValidatingWebhookConfiguration",
        &server::Webhooks { mutating: false },
    ),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        &server::CustomResourceDefinition,
    ),
    ("apiregistration.k8s.io", "APIService", &server::ApiService),
];

/// The rules of a kind.
pub fn rules_for(group: &str, kind: &str) -> &'static dyn Rules {
    TABLE
        .iter()
        .find(|(g, k, _)| *g == group && *k == kind)
        .map_or(&Plain, |(_, _, rules)| *rules)
}

#[cfg(test)]
mod check;

#[cfg(test)]
mod tests {
    use api_machinery::KindTable;

    use super::*;

    #[test]
    fn every_row_names_a_kind() {
        let kinds = KindTable::builtin();
        for (group, kind, _) in TABLE {
            assert!(kinds.kind(group, kind).is_some(), "{group} {kind}");
        }
    }
}
