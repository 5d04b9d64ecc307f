//! A pod's phase out of its containers' statuses, as the kubelet computes it. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::spec;

/// How many containers are in which state.
#[derive(Default)]
struct Tally {
    unknown: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    stopped_for_good: u32,
    succeeded: u32,
    pending_init: u32,
    failed_init: bool,
}

fn exit_codes(status: &ContainerStatus) -> (Option<i32>, Option<i32>) {
    let code = |s: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        s.as_ref()
            .and_then(|s| s.terminated.as_ref())
            .map(|t| t.exit_code)
    };
    (code(&status.state), code(&status.last_state))
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

impl Tally {
    fn count_init(&mut self, pod: &Pod, statuses: &[ContainerStatus]) {
        for container in spec::init_containers(pod) {
            let Some(status) = find(statuses, &container.name) else {
                self.pending_init += 1;
                continue;
            };
            if spec::is_sidecar(container) {
                self.count_sidecar(status);
                continue;
            }
            let (now, last) = exit_codes(status);
            match (now, last) {
                (Some(0), _) => {}
                (Some(code), _) | (None, Some(code)) if !is_running(status) && code != 0 => {
                    // A failed one that will be tried again still holds the pod in Pending.
                    self.pending_init += 1;
                    self.failed_init |= !spec::restarts_after(pod, container, code);
                }
                _ => self.pending_init += 1,
            }
        }
    }

    fn count_sidecar(&mut self, status: &ContainerStatus) {
        if is_running(status) {
            self.running += 1;
            self.pending_init += u32::from(status.started != Some(true));
        } else if exit_codes(status) == (None, None) {
            self.waiting += 1;
            self.pending_init += 1;
        }
    }

    fn count_ordinary(&mut self, pod: &Pod, statuses: &[ContainerStatus]) {
        for container in spec::containers(pod) {
            let Some(status) = find(statuses, &container.name) else {
                self.unknown += 1;
                continue;
            };
            if is_running(status) {
                self.running += 1;
                continue;
            }
            let (now, last) = exit_codes(status);
            match now.or(last) {
                None => self.waiting += 1,
                Some(code) => {
                    self.stopped += 1;
                    self.succeeded += u32::from(now == Some(0));
                    self.stopped_for_good += u32::from(!spec::restarts_after(pod, container, code));
                }
            }
        }
    }
}

/// The phase; `ended` says that nothing of the pod runs or will run.
pub(crate) fn phase(
    pod: &Pod,
    init: &[ContainerStatus],
    ordinary: &[ContainerStatus],
    ended: bool,
) -> &'static str {
    let mut tally = Tally::default();
    tally.count_init(pod, init);
    tally.count_ordinary(pod, ordinary);
    if tally.failed_init {
        return "Failed";
    }
    // Sidecars count as initialized once the ordinary containers have been started.
    let begun = tally.stopped > 0 || ordinary.iter().any(is_running);
    if ended {
        let all = spec::containers(pod).len() as u32;
        return if tally.succeeded == all {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    if (tally.pending_init > 0 && !begun) || tally.waiting > 0 {
        return "Pending";
    }
    if tally.running > 0 && tally.unknown == 0 {
        return "Running";
    }
    if tally.running == 0 && tally.stopped > 0 && tally.unknown == 0 {
        return match (
            tally.stopped == tally.stopped_for_good,
            tally.stopped == tally.succeeded,
        ) {
            (false, _) => "Running",
            (true, true) => "Succeeded",
            (true, false) => "Failed",
        };
    }
    "Pending"
}
