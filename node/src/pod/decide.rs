//! The decision: what is wanted and what is observed in, the next steps out. Pure; the clock is an argument.
//!
//! It answers with the steps that can be taken now; the worker takes them, looks again and asks again, until the answer is empty
//! or only holds back. A pod that is being terminated is not decided here: nothing of it is started any more.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use k8s_openapi::jiff;

use super::actions::{Action, KillReason};
use super::backoff::format_duration;
use super::observed::{Container, Observed, Sandbox, State, Waiting};
use super::{containers, init, spec};

/// Dead containers kept for each name, for `kubectl logs --previous` and the last state.
const DEAD_CONTAINERS_KEPT: usize = 1;

/// The steps to take now.
pub(crate) fn decide(pod: &Pod, observed: &Observed, now: Timestamp) -> Vec<Action> {
    if observed.terminating {
        return Vec::new();
    }
    let Some(sandbox) = usable_sandbox(pod, observed) else {
        return replace_sandbox(pod, observed);
    };
    let mut actions = Vec::new();
    match init::decide(pod, observed, sandbox, now, &mut actions) {
        init::Progress::Failed => return vec![Action::Finish],
        init::Progress::Pending => {}
        init::Progress::Initialized => {
            let alive = containers::decide(pod, observed, sandbox, now, &mut actions);
            if !alive {
                return vec![Action::Finish];
            }
        }
    }
    actions.extend(garbage(observed));
    actions
}

fn usable_sandbox<'a>(pod: &Pod, observed: &'a Observed) -> Option<&'a Sandbox> {
    let ready = observed.sandboxes.iter().filter(|s| s.ready).count();
    let newest = observed.sandboxes.first()?;
    let host_network = spec::host_network(pod);
    let usable = newest.ready
        && ready == 1
        && newest.host_network == host_network
        && (host_network || !newest.ips.is_empty());
    usable.then_some(newest)
}

/// Clears the old sandbox away and creates a new one, unless nothing would run in it.
fn replace_sandbox(pod: &Pod, observed: &Observed) -> Vec<Action> {
    let attempt = observed.sandboxes.first().map_or(0, |s| s.attempt + 1);
    if attempt > 0 && !anything_to_run(pod, observed) {
        return vec![Action::Finish];
    }
    let mut actions: Vec<Action> = observed
        .running()
        .map(|c| {
            kill(
                c,
                KillReason::Replaced,
                "Pod sandbox changed, it will be killed and re-created.".into(),
            )
        })
        .collect();
    actions.extend(
        observed
            .sandboxes
            .iter()
            .filter(|s| s.ready)
            .map(|s| Action::StopSandbox { id: s.id.clone() }),
    );
    actions.push(Action::CreateSandbox { attempt });
    actions
}

/// Whether a new sandbox would have a container to hold.
fn anything_to_run(pod: &Pod, observed: &Observed) -> bool {
    if observed.containers.is_empty() {
        return true;
    }
    let any = spec::containers(pod)
        .iter()
        .any(|c| match observed.latest(&c.name) {
            Some(last) if last.state == State::Exited => {
                spec::restarts_after(pod, c, last.exit_code)
            }
            Some(_) => spec::restart_policy(pod) != "Never",
            None => true,
        });
    let init_failed = spec::init_containers(pod).iter().any(|c| {
        observed
            .latest(&c.name)
            .is_some_and(|l| l.failed() && !spec::restarts_after(pod, c, l.exit_code))
    });
    any && !init_failed
}

/// The step that kills a container.
pub(super) fn kill(container: &Container, reason: KillReason, message: String) -> Action {
    Action::Kill {
        id: container.id.clone(),
        name: container.name.clone(),
        reason,
        message,
    }
}

/// The step that starts a container: now, or later if it has crashed too often.
pub(super) fn start(pod: &Pod, container: &Spec, observed: &Observed, now: Timestamp) -> Action {
    let name = container.name.clone();
    let last = observed.latest(&name);
    let crashed_at = last
        .filter(|c| c.state == State::Exited)
        .map(Container::finished);
    if let (Some(event), Some(backoff)) = (crashed_at, observed.backoff.get(&name))
        && let Some(until) = backoff.until(event, now)
    {
        let message = format!(
            "back-off {} restarting failed container={name} pod={}",
            format_duration(backoff.delay()),
            spec::format_pod(pod)
        );
        return Action::Hold {
            name,
            until,
            waiting: Waiting {
                reason: "CrashLoopBackOff".into(),
                message,
            },
        };
    }
    let restart_count = last.map_or(0, |c| {
        if c.state == State::Created {
            c.restart_count
        } else {
            c.restart_count + 1
        }
    });
    Action::Start {
        name,
        restart_count,
        crashed_at,
    }
}

/// Dead containers beyond those kept, and old sandboxes that nothing is left of.
fn garbage(observed: &Observed) -> Vec<Action> {
    let mut dead: HashMap<&str, usize> = HashMap::new();
    let mut kept_sandboxes: Vec<&str> = Vec::new();
    let mut actions = Vec::new();
    for (index, container) in observed.containers.iter().enumerate() {
        let newest = !observed.containers[..index]
            .iter()
            .any(|c| c.name == container.name);
        let count = dead.entry(&container.name).or_default();
        let spare = !newest && container.state != State::Running && *count >= DEAD_CONTAINERS_KEPT;
        *count += usize::from(!newest && container.state != State::Running);
        if spare {
            actions.push(Action::RemoveContainer {
                id: container.id.clone(),
            });
        } else {
            kept_sandboxes.push(&container.sandbox_id);
        }
    }
    let old = observed
        .sandboxes
        .iter()
        .skip(1)
        .filter(|s| !s.ready && !kept_sandboxes.contains(&s.id.as_str()));
    actions.extend(old.map(|s| Action::RemoveSandbox { id: s.id.clone() }));
    actions
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
