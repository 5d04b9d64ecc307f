//! The steps that bring a pod from what is observed to what is wanted: the output of `decide`, the input of the effects.

use jiff::Timestamp;
use k8s_openapi::jiff;

use super::observed::Waiting;

/// Why a container is killed: chooses its grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// Its definition changed, or its sandbox went away.
    Replaced,
    /// The liveness probe failed.
    LivenessProbe,
    /// The startup probe failed.
    StartupProbe,
    /// It is in an unknown state.
    Unknown,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Create the pod's sandbox for the `attempt`th time.
    CreateSandbox { attempt: u32 },
    /// Stop a sandbox, its network and what still runs in it.
    StopSandbox { id: String },
    /// Remove a stopped sandbox.
    RemoveSandbox { id: String },
    /// Kill a container; `message` is the event's.
    Kill {
        id: String,
        name: String,
        reason: KillReason,
        message: String,
    },
    /// Start a container that was started `restart_count` times before; `crashed_at` is when its predecessor ended.
    Start {
        name: String,
        restart_count: u32,
        crashed_at: Option<Timestamp>,
    },
    /// Do not start a container before `until`.
    Hold {
        name: String,
        until: Timestamp,
        waiting: Waiting,
    },
    /// Remove a dead container that nobody will ask for.
    RemoveContainer { id: String },
    /// The pod has ended by itself: stop what is left, give back its resources.
    Finish,
}
