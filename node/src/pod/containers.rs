//! The part of the decision about ordinary containers. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use k8s_openapi::jiff;

use super::actions::{Action, KillReason};
use super::decide::{kill, start};
use super::observed::{Container, Observed, Sandbox, State};
use super::spec;

/// Adds the steps about ordinary containers; false if all have ended and none will start again.
pub(super) fn decide(
    pod: &Pod,
    observed: &Observed,
    sandbox: &Sandbox,
    now: Timestamp,
    actions: &mut Vec<Action>,
) -> bool {
    let mut alive = false;
    for container in spec::containers(pod) {
        let last = observed.latest(&container.name);
        match last.filter(|c| c.sandbox_id == sandbox.id) {
            Some(running) if running.state == State::Running => {
                alive = true;
                actions.extend(reason_to_kill(pod, container, running, observed));
            }
            Some(unknown) if unknown.state == State::Unknown => {
                alive = true;
                let message = format!(
                    "Container {} is in unknown state, try killing it before restart",
                    container.name
                );
                actions.push(kill(unknown, KillReason::Unknown, message));
            }
            // A container of an earlier sandbox counts as its last end: one that must not run again does not.
            _ => {
                let ended = last.filter(|c| c.state == State::Exited);
                if ended.is_none_or(|c| spec::restarts_after(pod, container, c.exit_code)) {
                    alive = true;
                    actions.push(start(pod, container, observed, now));
                }
            }
        }
    }
    alive
}

fn reason_to_kill(
    pod: &Pod,
    container: &Spec,
    running: &Container,
    observed: &Observed,
) -> Option<Action> {
    let name = &container.name;
    if running.hash != spec::hash(container) && !running.hash.is_empty() {
        let message = format!("Container {name} definition changed, will be restarted");
        return Some(kill(running, KillReason::Replaced, message));
    }
    let probes = observed.probe(running);
    let (reason, what) = match (probes.startup, probes.liveness) {
        (Some(false), _) => (KillReason::StartupProbe, "startup"),
        (_, Some(false)) => (KillReason::LivenessProbe, "liveness"),
        _ => return None,
    };
    // The runtime reports a killed process's exit as a failure.
    let again = if spec::restarts_after(pod, container, 137) {
        ", will be restarted"
    } else {
        ""
    };
    Some(kill(
        running,
        reason,
        format!("Container {name} failed {what} probe{again}"),
    ))
}
