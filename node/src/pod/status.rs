//! A pod's status for the API out of what is observed of it, in the kubelet's words. Pure; the clock is an argument.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;

use super::observed::{Container, Observed, State};
use super::{conditions, phase, spec};
use crate::resources;

/// Exit code of a container that could not be found when its pod ended, as the kubelet reports it.
const LOST_EXIT_CODE: i32 = 137;

/// What of the node goes into a pod's status.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    /// The node's own addresses.
    pub(crate) host_ips: Vec<String>,
    /// The runtime's name, the scheme of container ids: `containerd`.
    pub(crate) runtime_name: String,
}

/// The status; `previous` is the last one written, whose times are kept where nothing changed.
pub(crate) fn generate(
    pod: &Pod,
    observed: &Observed,
    previous: &PodStatus,
    facts: &NodeFacts,
    now: Timestamp,
) -> PodStatus {
    let now = whole_seconds(now);
    let statuses = |list: &[Spec], init: bool| -> Vec<ContainerStatus> {
        list.iter()
            .map(|c| container_status(pod, c, init, observed, previous, facts))
            .collect()
    };
    let init = statuses(spec::init_containers(pod), true);
    let ordinary = statuses(spec::containers(pod), false);
    let still_running = observed.running().next().is_some();
    let ended = observed.finished
        || ((observed.terminating || observed.failure.is_some()) && !still_running);
    let mut status = PodStatus {
        phase: Some(phase::phase(pod, &init, &ordinary, ended).to_string()),
        qos_class: Some(resources::qos_class(pod).as_str().to_string()),
        start_time: previous.start_time.clone().or(Some(Time(now))),
        host_ip: facts.host_ips.first().cloned(),
        host_ips: Some(
            facts
                .host_ips
                .iter()
                .map(|ip| HostIP { ip: ip.clone() })
                .collect(),
        ),
        observed_generation: pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(ordinary),
        ..Default::default()
    };
    addresses(pod, observed, previous, facts, &mut status);
    // A phase that has come to its end never goes back.
    if spec::is_terminal_phase(previous.phase.as_deref()) {
        status.phase = previous.phase.clone();
        status.reason = previous.reason.clone();
        status.message = previous.message.clone();
    }
    if let Some(failure) = &observed.failure {
        status.phase = Some("Failed".into());
        status.reason = Some(failure.reason.clone());
        status.message = Some(failure.message.clone());
    }
    status.conditions = Some(conditions::conditions(
        pod, observed, &status, previous, now,
    ));
    status
}

/// Whether the node writes this condition.
pub(crate) fn is_own_condition(type_: &str) -> bool {
    conditions::OWNED.contains(&type_)
}

/// The API's times have no fractions.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    super::observed::timestamp(nanoseconds).map(whole_seconds)
}

fn addresses(
    pod: &Pod,
    observed: &Observed,
    previous: &PodStatus,
    facts: &NodeFacts,
    status: &mut PodStatus,
) {
    let ips: Vec<String> = match observed.sandboxes.first() {
        Some(_) if spec::host_network(pod) => facts.host_ips.clone(),
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.clone(),
        // The runtime forgets the address of a stopped sandbox, the API keeps it.
        _ => previous
            .pod_ips
            .iter()
            .flatten()
            .map(|p| p.ip.clone())
            .collect(),
    };
    if !ips.is_empty() {
        status.pod_ip = ips.first().cloned();
        status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
    }
}

fn old_status<'a>(previous: &'a PodStatus, name: &str, init: bool) -> Option<&'a ContainerStatus> {
    let list = if init {
        &previous.init_container_statuses
    } else {
        &previous.container_statuses
    };
    list.iter().flatten().find(|s| s.name == name)
}

fn container_status(
    pod: &Pod,
    container: &Spec,
    init: bool,
    observed: &Observed,
    previous: &PodStatus,
    facts: &NodeFacts,
) -> ContainerStatus {
    let name = &container.name;
    let latest = observed.latest(name);
    let old = old_status(previous, name, init);
    let (state, last_state) = states(pod, container, observed, old, facts);
    let running = latest.filter(|c| c.state == State::Running && state.running.is_some());
    // What the API said of this very container holds until a probe says otherwise: a restart of the agent changes nothing.
    let before = |c: &Container, said: fn(&ContainerStatus) -> bool| {
        let same = |o: &&ContainerStatus| {
            o.container_id
                .as_deref()
                .is_some_and(|id| id.ends_with(&c.id))
        };
        old.filter(same).is_some_and(said)
    };
    let started = running.is_some_and(|c| {
        let probed = observed.probe(c).startup;
        container.startup_probe.is_none()
            || probed.unwrap_or_else(|| before(c, |o| o.started == Some(true)))
    });
    let ready = match running {
        Some(c) if !init || spec::is_sidecar(container) => {
            let probed = observed.probe(c).readiness;
            started
                && (container.readiness_probe.is_none()
                    || probed.unwrap_or_else(|| before(c, |o| o.ready)))
        }
        _ => init && !spec::is_sidecar(container) && latest.is_some_and(Container::succeeded),
    };
    let spec_image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: name.clone(),
        container_id: latest.map(|c| format!("{}://{}", facts.runtime_name, c.id)),
        image: latest
            .map(|c| c.image.clone())
            .filter(|i| !i.is_empty())
            .unwrap_or(spec_image),
        image_id: latest.map(|c| c.image_id.clone()).unwrap_or_default(),
        restart_count: latest.map_or(old.map_or(0, |o| o.restart_count), |c| {
            c.restart_count as i32
        }),
        ready,
        started: Some(started),
        state: Some(state),
        last_state: Some(last_state),
        resources: running
            .and(container.resources.clone())
            .filter(|r| *r != Default::default()),
        volume_mounts: volume_mounts(container),
        ..Default::default()
    }
}

fn volume_mounts(container: &Spec) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let one = |m: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only,
        recursive_read_only: (m.read_only == Some(true)).then(|| "Disabled".to_string()),
        ..Default::default()
    };
    Some(mounts.iter().map(one).collect())
}

/// A container's present and last state.
fn states(
    pod: &Pod,
    container: &Spec,
    observed: &Observed,
    old: Option<&ContainerStatus>,
    facts: &NodeFacts,
) -> (ContainerState, ContainerState) {
    let latest = observed.latest(&container.name);
    let ended = observed.finished || observed.terminating || observed.failure.is_some();
    let ended_before = observed
        .previous(&container.name)
        .filter(|c| c.state == State::Exited);
    let last = ended_before
        .map(|c| terminated(c, facts))
        .or_else(|| old.and_then(|o| o.last_state.clone()));
    let last = last.unwrap_or_default();
    let waiting = observed.waiting.get(&container.name).filter(|_| !ended);
    match latest {
        Some(c) if c.state == State::Running => {
            let running = ContainerStateRunning {
                started_at: timestamp(c.started_at).map(Time),
            };
            (
                ContainerState {
                    running: Some(running),
                    ..Default::default()
                },
                last,
            )
        }
        Some(c) if c.state == State::Exited => match waiting {
            Some(w) if spec::restarts_after(pod, container, c.exit_code) => {
                (waiting_state(&w.reason, &w.message), terminated(c, facts))
            }
            _ => (terminated(c, facts), last),
        },
        Some(c) if c.state == State::Unknown => (lost(Some(c), facts), last),
        _ if observed.finished && was_running(old) => (lost(None, facts), last),
        _ => match (waiting, spec::init_containers(pod).is_empty()) {
            (Some(w), _) => (waiting_state(&w.reason, &w.message), last),
            (None, true) => (waiting_state("ContainerCreating", ""), last),
            (None, false) => (waiting_state("PodInitializing", ""), last),
        },
    }
}

fn was_running(old: Option<&ContainerStatus>) -> bool {
    old.and_then(|o| o.state.as_ref())
        .is_some_and(|s| s.running.is_some())
}

fn waiting_state(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_string());
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_string()),
        message,
    };
    ContainerState {
        waiting: Some(waiting),
        ..Default::default()
    }
}

fn terminated(c: &Container, facts: &NodeFacts) -> ContainerState {
    let default_reason = if c.exit_code == 0 {
        "Completed"
    } else {
        "Error"
    };
    let reason = if c.reason.is_empty() {
        default_reason
    } else {
        &c.reason
    };
    let terminated = ContainerStateTerminated {
        exit_code: c.exit_code,
        reason: Some(reason.to_string()),
        message: (!c.message.is_empty()).then(|| c.message.clone()),
        started_at: timestamp(c.started_at).map(Time),
        finished_at: timestamp(c.finished_at).map(Time),
        container_id: Some(format!("{}://{}", facts.runtime_name, c.id)),
        signal: None,
    };
    ContainerState {
        terminated: Some(terminated),
        ..Default::default()
    }
}

fn lost(c: Option<&Container>, facts: &NodeFacts) -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: LOST_EXIT_CODE,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("The container could not be located when the pod was terminated".into()),
        container_id: c.map(|c| format!("{}://{}", facts.runtime_name, c.id)),
        ..Default::default()
    };
    ContainerState {
        terminated: Some(terminated),
        ..Default::default()
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
