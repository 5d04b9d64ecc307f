//! The task of one pod: looks, decides, acts, reports, waits for the next reason to look.
//!
//! All reasons end in the same loop: a new definition, the runtime, probes, a changed ConfigMap, a timer. It must not know how pods
//! reach the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff;
use tokio::sync::{Notify, watch};

use super::actions::Action;
use super::decide::decide;
use super::observe::Observer;
use super::observed::{Observed, Waiting};
use super::status_writer::StatusWriter;
use super::{spec, status};
use crate::probes::Probes;
use crate::pull::PullBackoff;
use crate::references::references;
use crate::self_fence;
use crate::shared::Shared;
use crate::volumes::Mounted;

/// Wait after the runtime did not answer.
const RUNTIME_RETRY: SignedDuration = SignedDuration::from_secs(2);
/// First wait after a volume or sandbox could not be made.
const FIRST_RETRY: SignedDuration = SignedDuration::from_millis(500);
/// The longest such wait.
const LAST_RETRY: SignedDuration = SignedDuration::from_secs(10);

/// What the API wants of the pod.
#[derive(Debug, Clone)]
pub(crate) struct Desired {
    pub(crate) pod: Arc<Pod>,
    /// The object is gone: whatever still runs must end, and nobody wants to hear of it.
    pub(crate) gone: bool,
}

impl Desired {
    /// Whether the pod shall end.
    pub(super) fn ending(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// Reasons to look again, besides the API's.
#[derive(Clone, Default)]
pub(crate) struct Wakers {
    /// The runtime or a probe has news.
    pub(crate) runtime: Arc<Notify>,
    /// An object that the pod refers to has changed.
    pub(crate) objects: Arc<Notify>,
}

/// What the worker does after one round.
pub(super) enum Next {
    Again,
    Wait(Option<Timestamp>),
    Done,
}

/// One pod's worker and all that it remembers.
pub(crate) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) desired: watch::Receiver<Desired>,
    pub(super) wakers: Wakers,
    pub(super) observer: Observer,
    pub(super) probes: Probes,
    pub(super) observed: Observed,
    pub(super) status: Option<StatusWriter>,
    pub(super) last_status: PodStatus,
    pub(super) pulls: PullBackoff,
    pub(super) mounted: Option<Mounted>,
    /// Starts that must wait for another reason than a crash, by container.
    pub(super) not_before: BTreeMap<String, Timestamp>,
    /// Crash holds already told of, by container.
    held: BTreeMap<String, Timestamp>,
    /// When a volume or the sandbox may be tried again, and how long to wait after that.
    pub(super) retry: Option<(Timestamp, SignedDuration)>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        desired: watch::Receiver<Desired>,
        wakers: Wakers,
    ) -> Worker {
        let pod = desired.borrow().pod.clone();
        let last_status = pod.status.clone().unwrap_or_default();
        Worker {
            observer: Observer::new(shared.cri.clone(), spec::uid(&pod)),
            probes: Probes::new(
                shared.cri.clone(),
                shared.recorder.clone(),
                wakers.runtime.clone(),
            ),
            status: Some(StatusWriter::start(shared.client.clone(), &pod)),
            observed: Observed::default(),
            last_status,
            pulls: PullBackoff::default(),
            mounted: None,
            not_before: BTreeMap::new(),
            held: BTreeMap::new(),
            retry: None,
            shared,
            desired,
            wakers,
        }
    }

    /// Works until nothing of the pod is left.
    pub(crate) async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            let next = if desired.ending() {
                self.terminate(&desired).await
            } else {
                self.sync(&desired.pod).await
            };
            let until = match next {
                Next::Done => return,
                Next::Again => continue,
                Next::Wait(until) => until,
            };
            let sleep = until.map(|t| {
                t.duration_since(Timestamp::now())
                    .try_into()
                    .unwrap_or(Duration::ZERO)
            });
            tokio::select! {
                changed = self.desired.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Labels and annotations may be in a volume.
                    self.mounted = None;
                }
                () = self.wakers.runtime.notified() => {}
                () = self.wakers.objects.notified() => {
                    self.mounted = None;
                    self.retry = None;
                    // What failed for want of the object may be tried at once.
                    self.not_before.clear();
                }
                () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => {}
            }
        }
    }

    /// Brings observations up to date; false if the runtime does not answer.
    pub(super) async fn look(&mut self) -> bool {
        match self.observer.observe().await {
            Ok((sandboxes, containers)) => {
                self.observed.sandboxes = sandboxes;
                self.observed.containers = containers;
                self.observed.probes = self.probes.results();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the container runtime does not answer");
                false
            }
        }
    }

    /// Computes the status and has it written.
    pub(super) fn report(&mut self, pod: &Pod, now: Timestamp) {
        let status = status::generate(
            pod,
            &self.observed,
            &self.last_status,
            &self.shared.facts,
            now,
        );
        if let Some(writer) = &self.status
            && status != self.last_status
        {
            writer.write(status.clone());
        }
        self.last_status = status;
    }

    async fn sync(&mut self, pod: &Arc<Pod>) -> Next {
        let now = Timestamp::now();
        if spec::is_terminal_phase(self.last_status.phase.as_deref()) {
            return self.finish(pod).await;
        }
        if !self.look().await {
            return Next::Wait(Some(now + RUNTIME_RETRY));
        }
        self.hold_references(pod);
        let end = self.end_of(pod, now);
        if let Some((at, reason, message)) = end
            && at <= now
        {
            self.shared.recorder.normal(pod, None, reason, message);
            self.observed.failure = Some(Waiting {
                reason: reason.into(),
                message: message.into(),
            });
            return self.finish(pod).await;
        }
        let sandbox = self.observed.ready_sandbox().cloned();
        self.shared.host_ports.set(pod, sandbox.as_ref());
        let pod_ip = self
            .shared
            .fields(pod, sandbox.as_ref())
            .pod_ips
            .first()
            .cloned()
            .unwrap_or_default();
        self.probes.follow(pod, &self.observed.containers, &pod_ip);
        let actions = decide(pod, &self.observed, now);
        let (steps, wake_at) = self.hold_back(pod, actions, now);
        self.forget_waiting();
        self.report(pod, now);
        if steps.contains(&Action::Finish) {
            return self.finish(pod).await;
        }
        self.act(pod, steps, now, [wake_at, end.map(|(at, ..)| at)])
            .await
    }

    /// When the agent itself ends the pod for good, with reason and message; the earliest of all reasons.
    fn end_of(&self, pod: &Pod, now: Timestamp) -> Option<(Timestamp, &'static str, &'static str)> {
        let deadline = deadline(pod, &self.last_status).map(|at| {
            let message = "Pod was active on the node longer than the specified deadline";
            (at, "DeadlineExceeded", message)
        });
        let fence = self.shared.self_fence.as_ref();
        let fence = fence
            .and_then(|contact| contact.end_of(pod, now))
            .map(|at| {
                let message = "Pod was ended by its node, which could not reach the control plane";
                (at, self_fence::REASON, message)
            });
        deadline.into_iter().chain(fence).min_by_key(|(at, ..)| *at)
    }

    /// Takes the steps, unless the pod is told to end meanwhile.
    async fn act(
        &mut self,
        pod: &Arc<Pod>,
        steps: Vec<Action>,
        now: Timestamp,
        wake_at: [Option<Timestamp>; 2],
    ) -> Next {
        let mut acted = false;
        // What cannot be done now must be tried again, whatever else comes.
        let unfinished = (!steps.is_empty()).then_some(now + RUNTIME_RETRY);
        // A volume whose object changed, or whose token gets old, is refreshed although nothing starts.
        let stale = self
            .mounted
            .as_ref()
            .is_none_or(|m| m.refresh_at.is_some_and(|t| t <= now));
        let may_retry = self.retry.is_none_or(|(at, _)| at <= now);
        if may_retry && (stale || !steps.is_empty()) {
            let mut ending = self.desired.clone();
            tokio::select! {
                biased;
                _ = ending.wait_for(Desired::ending) => return Next::Again,
                ok = self.effects(pod, steps) => acted = ok,
            }
        }
        if acted {
            return Next::Again;
        }
        let refresh_at = self.mounted.as_ref().and_then(|m| m.refresh_at);
        let retry_at = self.retry.map(|(at, _)| at);
        let earliest = self.not_before.values().copied().filter(|t| *t > now).min();
        Next::Wait(
            wake_at
                .into_iter()
                .chain([refresh_at, retry_at, earliest, unfinished])
                .flatten()
                .min(),
        )
    }

    /// Removes the steps whose time has not come, and says when it comes.
    fn hold_back(
        &mut self,
        pod: &Pod,
        actions: Vec<Action>,
        now: Timestamp,
    ) -> (Vec<Action>, Option<Timestamp>) {
        let mut wake_at: Option<Timestamp> = None;
        let mut steps = Vec::new();
        for action in actions {
            match action {
                Action::Hold {
                    name,
                    until,
                    waiting,
                } => {
                    wake_at = [wake_at, Some(until)].into_iter().flatten().min();
                    if self.held.insert(name.clone(), until) != Some(until) {
                        let message = format!(
                            "Back-off restarting failed container {name} in pod {}",
                            spec::format_pod(pod)
                        );
                        self.shared
                            .recorder
                            .warning(pod, Some(&name), "BackOff", message);
                    }
                    self.observed.waiting.insert(name, waiting);
                }
                Action::Start { ref name, .. }
                    if self.not_before.get(name).is_some_and(|t| *t > now) => {}
                step => steps.push(step),
            }
        }
        (steps, wake_at)
    }

    /// A container that runs waits for nothing.
    fn forget_waiting(&mut self) {
        let running: Vec<String> = self.observed.running().map(|c| c.name.clone()).collect();
        self.observed
            .waiting
            .retain(|name, _| !running.contains(name));
    }

    fn hold_references(&self, pod: &Pod) {
        let found = references(pod);
        let (uid, namespace) = (spec::uid(pod), spec::namespace(pod));
        self.shared
            .config_maps
            .hold(uid, namespace, &found.config_maps, &self.wakers.objects);
        self.shared
            .secrets
            .hold(uid, namespace, &found.secrets, &self.wakers.objects);
    }

    /// Notes that a volume or the sandbox failed, and waits longer each time.
    pub(super) fn failed(&mut self) {
        let delay = self
            .retry
            .map_or(FIRST_RETRY, |(_, last)| (last * 2).min(LAST_RETRY));
        self.retry = Some((Timestamp::now() + delay, delay));
    }
}

/// When the pod has been active for as long as it may.
fn deadline(pod: &Pod, status: &PodStatus) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = status.start_time.as_ref()?;
    Some(start.0 + SignedDuration::from_secs(seconds))
}
