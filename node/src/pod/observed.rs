//! What is known of a pod besides its definition: the runtime's sandboxes and containers, probe results, backoff.
//!
//! It is the second input of `decide` and `status`. It must not know how any of it was found out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::jiff;

use super::backoff::Backoff;
use crate::labels;

/// A container's state in the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

/// One sandbox of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) host_network: bool,
    pub(crate) ips: Vec<String>,
    pub(crate) created_at: i64,
}

/// One container of the pod, running or dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) state: State,
    pub(crate) created_at: i64,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) restart_count: u32,
    pub(crate) hash: String,
    pub(crate) log_path: String,
}

/// A time of the runtime (nanoseconds since 1970; 0 for never).
pub(crate) fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0)
        .then(|| Timestamp::from_nanosecond(nanoseconds.into()).ok())
        .flatten()
}

impl Container {
    pub(crate) fn from_cri(status: &cri::ContainerStatus, sandbox_id: &str) -> Container {
        let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
        Container {
            id: status.id.clone(),
            sandbox_id: sandbox_id.to_string(),
            name: status
                .labels
                .get(labels::CONTAINER_NAME)
                .cloned()
                .unwrap_or_default(),
            image: status
                .image
                .as_ref()
                .map(|i| i.image.clone())
                .unwrap_or_default(),
            image_id: status.image_ref.clone(),
            state: match status.state() {
                cri::ContainerState::ContainerCreated => State::Created,
                cri::ContainerState::ContainerRunning => State::Running,
                cri::ContainerState::ContainerExited => State::Exited,
                cri::ContainerState::ContainerUnknown => State::Unknown,
            },
            created_at: status.created_at,
            started_at: status.started_at,
            finished_at: status.finished_at,
            exit_code: status.exit_code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            restart_count: annotation(labels::RESTART_COUNT).parse().unwrap_or(0),
            hash: annotation(labels::CONTAINER_HASH),
            log_path: status.log_path.clone(),
        }
    }

    pub(crate) fn finished(&self) -> Timestamp {
        timestamp(self.finished_at)
            .or_else(|| timestamp(self.created_at))
            .unwrap_or_default()
    }

    pub(crate) fn failed(&self) -> bool {
        self.state == State::Exited && self.exit_code != 0
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.state == State::Exited && self.exit_code == 0
    }
}

/// What probes have found out about one running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ProbeResults {
    /// The startup probe: None until it has decided.
    pub(crate) startup: Option<bool>,
    /// The liveness probe: None until it has decided.
    pub(crate) liveness: Option<bool>,
    /// The readiness probe: None until it has decided.
    pub(crate) readiness: Option<bool>,
}

/// Why a container does not run, in status' words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// All that is known of a pod besides its definition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    /// Newest first.
    pub(crate) sandboxes: Vec<Sandbox>,
    /// Newest first.
    pub(crate) containers: Vec<Container>,
    /// By container id.
    pub(crate) probes: BTreeMap<String, ProbeResults>,
    /// Backoff of crashed containers, by container name.
    pub(crate) backoff: BTreeMap<String, Backoff>,
    /// Why the last start of a container did not come to pass, by container name.
    pub(crate) waiting: BTreeMap<String, Waiting>,
    /// The pod was told to end, and for good (deadline, deletion); nothing is started any more.
    pub(crate) terminating: bool,
    /// The pod has ended: nothing of it runs any more.
    pub(crate) finished: bool,
    /// Reason and message of a pod that the agent itself failed, as `DeadlineExceeded`.
    pub(crate) failure: Option<Waiting>,
}

impl Observed {
    /// The newest container of that name.
    pub(crate) fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The container of that name that ended before the newest one.
    pub(crate) fn previous(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }

    /// The sandbox that containers run in, if it is ready.
    pub(crate) fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|s| s.ready)
    }

    /// Containers that may hold a process.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers
            .iter()
            .filter(|c| matches!(c.state, State::Running | State::Unknown))
    }

    pub(crate) fn probe(&self, container: &Container) -> ProbeResults {
        self.probes.get(&container.id).copied().unwrap_or_default()
    }
}
