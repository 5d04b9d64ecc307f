//! A pod's conditions, with the kubelet's reasons and messages. Pure; the clock is an argument.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;

use super::observed::Observed;
use super::spec;

/// Condition types that the node writes; all others belong to somebody else.
pub(crate) const OWNED: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

struct Draft {
    type_: &'static str,
    status: &'static str,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Draft {
    fn yes(type_: &'static str) -> Draft {
        Draft {
            type_,
            status: "True",
            reason: None,
            message: None,
        }
    }

    fn no(type_: &'static str, reason: &'static str, message: String) -> Draft {
        let message = (!message.is_empty()).then_some(message);
        Draft {
            type_,
            status: "False",
            reason: Some(reason),
            message,
        }
    }
}

/// All conditions of the pod: the node's own, recomputed, and everybody else's as they are.
pub(crate) fn conditions(
    pod: &Pod,
    observed: &Observed,
    status: &PodStatus,
    previous: &PodStatus,
    now: Timestamp,
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(pod, status);
    let drafts = [
        ready_to_start(pod, observed),
        initialized(pod, status),
        ready(pod, &containers_ready),
        containers_ready,
        Draft::yes("PodScheduled"),
    ];
    let written = |type_: &str| {
        previous
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == type_)
    };
    let mut list: Vec<PodCondition> = drafts
        .into_iter()
        .map(|d| {
            let old = written(d.type_).filter(|c| c.status == d.status);
            let transition = old
                .and_then(|c| c.last_transition_time.clone())
                .unwrap_or(Time(now));
            PodCondition {
                type_: d.type_.into(),
                status: d.status.into(),
                reason: d.reason.map(str::to_string),
                message: d.message,
                last_transition_time: Some(transition),
                observed_generation: pod.metadata.generation,
                ..Default::default()
            }
        })
        .collect();
    let api = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    list.extend(
        api.iter()
            .filter(|c| !OWNED.contains(&c.type_.as_str()))
            .cloned(),
    );
    list
}

fn ready_to_start(pod: &Pod, observed: &Observed) -> Draft {
    let ready = observed
        .ready_sandbox()
        .is_some_and(|s| spec::host_network(pod) || !s.ips.is_empty());
    if ready && !observed.finished {
        return Draft::yes("PodReadyToStartContainers");
    }
    Draft {
        type_: "PodReadyToStartContainers",
        status: "False",
        reason: None,
        message: None,
    }
}

fn initialized(pod: &Pod, status: &PodStatus) -> Draft {
    let statuses = status
        .init_container_statuses
        .as_deref()
        .unwrap_or_default();
    let begun = status.container_statuses.iter().flatten().any(|s| {
        s.state
            .as_ref()
            .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    });
    let incomplete: Vec<&str> = spec::init_containers(pod)
        .iter()
        .filter(|c| {
            let found = statuses.iter().find(|s| s.name == c.name);
            let done = |s: &ContainerStatus| {
                if spec::is_sidecar(c) {
                    s.started == Some(true)
                } else {
                    s.ready
                }
            };
            !begun && !found.is_some_and(done)
        })
        .map(|c| c.name.as_str())
        .collect();
    if status.phase.as_deref() == Some("Succeeded") {
        return Draft {
            reason: Some("PodCompleted"),
            ..Draft::yes("Initialized")
        };
    }
    if incomplete.is_empty() {
        return Draft::yes("Initialized");
    }
    let message = format!(
        "containers with incomplete status: [{}]",
        incomplete.join(" ")
    );
    Draft::no("Initialized", "ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, status: &PodStatus) -> Draft {
    const TYPE: &str = "ContainersReady";
    match status.phase.as_deref() {
        Some("Succeeded") => return Draft::no(TYPE, "PodCompleted", String::new()),
        Some("Failed") => return Draft::no(TYPE, "PodFailed", String::new()),
        _ => {}
    }
    let statuses = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    let by_name: std::collections::HashMap<&str, bool> =
        statuses.map(|s| (s.name.as_str(), s.ready)).collect();
    let sidecars = spec::init_containers(pod)
        .iter()
        .filter(|c| spec::is_sidecar(c));
    let unready: Vec<&str> = sidecars
        .chain(spec::containers(pod))
        .map(|c| c.name.as_str())
        .filter(|name| !by_name.get(name).copied().unwrap_or(false))
        .collect();
    if unready.is_empty() {
        return Draft::yes(TYPE);
    }
    Draft::no(
        TYPE,
        "ContainersNotReady",
        format!("containers with unready status: [{}]", unready.join(" ")),
    )
}

fn ready(pod: &Pod, containers: &Draft) -> Draft {
    if containers.status != "True" {
        return Draft {
            type_: "Ready",
            message: containers.message.clone(),
            ..*containers
        };
    }
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let gates = pod
        .spec
        .as_ref()
        .and_then(|s| s.readiness_gates.as_deref())
        .unwrap_or_default();
    let unmet: Vec<String> = gates
        .iter()
        .filter_map(
            |gate| match conditions.iter().find(|c| c.type_ == gate.condition_type) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{}\" does not exist.",
                    gate.condition_type
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                    gate.condition_type, c.status
                )),
                Some(_) => None,
            },
        )
        .collect();
    if unmet.is_empty() {
        Draft::yes("Ready")
    } else {
        Draft::no("Ready", "ReadinessGatesNotReady", unmet.join(", "))
    }
}
