//! Workloads: `apps`, `batch`, `autoscaling`.

use super::row::namespaced;
use crate::kind::{FieldSelectorErrors, Kind};

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        namespaced("apps", "ControllerRevision", "controllerrevisions"),
        namespaced("apps", "DaemonSet", "daemonsets")
            .short(&["ds"])
            .in_all()
            .keeps_generation()
            .status(),
        namespaced("apps", "Deployment", "deployments")
            .short(&["deploy"])
            .in_all()
            .keeps_generation()
            .scale()
            .status(),
        namespaced("apps", "ReplicaSet", "replicasets")
            .short(&["rs"])
            .in_all()
            .keeps_generation()
            .scale()
            .status()
            .field_or("status.replicas", "0"),
        namespaced("apps", "StatefulSet", "statefulsets")
            .short(&["sts"])
            .in_all()
            .keeps_generation()
            .scale()
            .status(),
        namespaced(
            "autoscaling",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
        )
        .short(&["hpa"])
        .in_all()
        .versions(&["v2", "v1"], "v2")
        .status(),
        namespaced("batch", "CronJob", "cronjobs")
            .short(&["cj"])
            .in_all()
            .keeps_generation()
            .status(),
        job(),
    ]
}

fn job() -> Kind {
    let mut kind = namespaced("batch", "Job", "jobs")
        .in_all()
        .keeps_generation()
        .status()
        .field_at("status.successful", &["status.succeeded"], "0");
    kind.field_selector_errors = FieldSelectorErrors::NotSupportedForKind;
    kind
}
