//! The table of controllers: one row each. To add a controller, add its file and its row.

use std::sync::Arc;

use crate::context::{Context, Controller, Queue};

/// One controller.
pub(crate) struct Row {
    /// As it appears in logs.
    pub(crate) name: &'static str,
    /// The service account in `kube-system` that it acts as; also the source of its events.
    pub(crate) identity: &'static str,
    /// Keys that are worked on at the same time.
    pub(crate) workers: usize,
    /// Registers with the informers and answers what reconciles one key.
    pub(crate) start: fn(&Context, &Queue) -> Arc<dyn Controller>,
}

const fn row(
    name: &'static str,
    identity: &'static str,
    workers: usize,
    start: fn(&Context, &Queue) -> Arc<dyn Controller>,
) -> Row {
    Row {
        name,
        identity,
        workers,
        start,
    }
}

pub(crate) const ROWS: &[Row] = &[
    row(
        "serviceaccount",
        "service-account-controller",
        1,
        crate::service_account::start,
    ),
    row(
        "root-ca-certificate-publisher",
        "root-ca-cert-publisher",
        1,
        crate::root_ca::start,
    ),
    row(
        "replicaset",
        "replicaset-controller",
        5,
        crate::replicas::start_replica_set,
    ),
    row(
        "replicationcontroller",
        "replication-controller",
        5,
        crate::replicas::start_replication_controller,
    ),
    row(
        "deployment",
        "deployment-controller",
        5,
        crate::deployment::start,
    ),
    row(
        "endpoint",
        "endpoint-controller",
        5,
        crate::services::start_endpoints,
    ),
    row(
        "endpointslice",
        "endpointslice-controller",
        5,
        crate::services::start_slices,
    ),
    row(
        "endpointslicemirroring",
        "endpointslicemirroring-controller",
        2,
        crate::services::start_mirroring,
    ),
    row("nodeipam", "node-controller", 1, crate::node_ipam::start),
    row(
        "namespace",
        "namespace-controller",
        5,
        crate::namespace::start,
    ),
    row(
        "garbagecollector",
        "generic-garbage-collector",
        20,
        crate::garbage_collector::start,
    ),
    row(
        "daemonset",
        "daemon-set-controller",
        2,
        crate::daemon_set::start,
    ),
    row(
        "statefulset",
        "statefulset-controller",
        5,
        crate::stateful_set::start,
    ),
    row("job", "job-controller", 5, crate::job::start),
    row("cronjob", "cronjob-controller", 5, crate::cron_job::start),
    row(
        "ttl-after-finished",
        "ttl-after-finished-controller",
        5,
        crate::ttl_after_finished::start,
    ),
    row(
        "nodelifecycle",
        "node-controller",
        4,
        crate::node_lifecycle::start,
    ),
    row(
        "taint-eviction",
        "node-controller",
        4,
        crate::taint_eviction::start,
    ),
    row("podgc", "pod-garbage-collector", 2, crate::pod_gc::start),
    row(
        "disruption",
        "disruption-controller",
        2,
        crate::disruption::start,
    ),
    row(
        "csrapproving",
        "certificate-controller",
        2,
        crate::certificates::start_client_approval,
    ),
    row(
        "csrapproving-serving",
        "kubelet-serving-approver",
        1,
        crate::certificates::start_serving_approval,
    ),
    row(
        "csrsigning",
        "certificate-controller",
        2,
        crate::certificates::start_signing,
    ),
    row(
        "csrcleaner",
        "certificate-controller",
        1,
        crate::certificates::start_cleaning,
    ),
    row(
        "bootstrapsigner",
        "bootstrap-signer",
        1,
        crate::bootstrap::start_signer,
    ),
    row(
        "tokencleaner",
        "token-cleaner",
        1,
        crate::bootstrap::start_cleaner,
    ),
];
