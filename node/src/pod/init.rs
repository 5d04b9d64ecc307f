//! The part of the decision about init containers: one after the other, sidecars (KEP-753) staying behind. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use k8s_openapi::jiff;

use super::actions::{Action, KillReason};
use super::decide::{kill, start};
use super::observed::{Container, Observed, Sandbox, State};
use super::spec;

/// How far initialization has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Ordinary containers have to wait.
    Pending,
    /// Ordinary containers may run.
    Initialized,
    /// An init container failed for good, and the pod with it.
    Failed,
}

/// Adds the steps about init containers and says how far they are.
pub(super) fn decide(
    pod: &Pod,
    observed: &Observed,
    sandbox: &Sandbox,
    now: Timestamp,
    actions: &mut Vec<Action>,
) -> Progress {
    let here = |name: &str| observed.latest(name).filter(|c| c.sandbox_id == sandbox.id);
    let initialized = spec::containers(pod)
        .iter()
        .any(|c| here(&c.name).is_some());
    let specs = spec::init_containers(pod);
    // The last init container that ran tells how far it is: those before it may have been collected as garbage.
    let reached = specs.iter().rposition(|c| here(&c.name).is_some());
    for (index, container) in specs.iter().enumerate() {
        let passed = initialized || reached.is_some_and(|r| index < r);
        let done = if spec::is_sidecar(container) {
            sidecar(
                pod,
                container,
                here(&container.name),
                observed,
                now,
                actions,
            ) || passed
        } else if passed {
            true
        } else {
            match ordinary(
                pod,
                container,
                here(&container.name),
                observed,
                now,
                actions,
            ) {
                Progress::Initialized => true,
                other => return other,
            }
        };
        if !done {
            return Progress::Pending;
        }
    }
    Progress::Initialized
}

fn ordinary(
    pod: &Pod,
    container: &Spec,
    last: Option<&Container>,
    observed: &Observed,
    now: Timestamp,
    actions: &mut Vec<Action>,
) -> Progress {
    match last {
        Some(c) if c.state == State::Running => return Progress::Pending,
        Some(c) if c.succeeded() => return Progress::Initialized,
        Some(c) if c.failed() && !spec::restarts_after(pod, container, c.exit_code) => {
            return Progress::Failed;
        }
        Some(c) if c.state == State::Unknown => {
            let message = format!(
                "Init container {} is in unknown state, try killing it before restart",
                c.name
            );
            actions.push(kill(c, KillReason::Unknown, message));
        }
        _ => {}
    }
    actions.push(start(pod, container, observed, now));
    Progress::Pending
}

/// Keeps a sidecar running; true once what comes after it may start.
fn sidecar(
    pod: &Pod,
    container: &Spec,
    last: Option<&Container>,
    observed: &Observed,
    now: Timestamp,
    actions: &mut Vec<Action>,
) -> bool {
    let Some(running) = last.filter(|c| c.state == State::Running) else {
        actions.push(start(pod, container, observed, now));
        return false;
    };
    let probes = observed.probe(running);
    let name = &container.name;
    if container.startup_probe.is_some() && probes.startup != Some(true) {
        if probes.startup == Some(false) {
            let message = format!("Init container {name} failed startup probe");
            actions.push(kill(running, KillReason::StartupProbe, message));
        }
        return false;
    }
    if running.hash != spec::hash(container) && !running.hash.is_empty() {
        actions.push(kill(
            running,
            KillReason::Replaced,
            format!("Init container {name} definition changed"),
        ));
    } else if probes.liveness == Some(false) {
        actions.push(kill(
            running,
            KillReason::LivenessProbe,
            format!("Init container {name} failed liveness probe"),
        ));
    }
    true
}
