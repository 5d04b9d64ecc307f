//! Probes of running containers: one task each, its own timer, thresholds as Kubernetes defines. Results wake the pod's worker.
//!
//! It must not know what a result leads to.

mod check;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::jiff;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cri::Cri;
use crate::events::Recorder;
use crate::pod::observed::{self, ProbeResults, State};
use crate::pod::spec;
use check::Outcome;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }

    fn set(self, results: &mut ProbeResults, value: bool) -> bool {
        let slot = match self {
            Kind::Startup => &mut results.startup,
            Kind::Liveness => &mut results.liveness,
            Kind::Readiness => &mut results.readiness,
        };
        slot.replace(value) != Some(value)
    }
}

type Results = Arc<Mutex<BTreeMap<String, ProbeResults>>>;

/// The probes of one pod's containers.
pub(crate) struct Probes {
    cri: Cri,
    recorder: Recorder,
    changed: Arc<Notify>,
    results: Results,
    /// Tasks of each probed container; dropping one ends them.
    running: BTreeMap<String, DropGuard>,
}

impl Probes {
    /// Probes that wake `changed` when a result changes.
    pub(crate) fn new(cri: Cri, recorder: Recorder, changed: Arc<Notify>) -> Probes {
        Probes {
            cri,
            recorder,
            changed,
            results: Results::default(),
            running: BTreeMap::new(),
        }
    }

    /// What is known now.
    pub(crate) fn results(&self) -> BTreeMap<String, ProbeResults> {
        self.results.lock().clone()
    }

    /// Probes exactly the containers that run.
    pub(crate) fn follow(&mut self, pod: &Pod, containers: &[observed::Container], pod_ip: &str) {
        let alive: Vec<&observed::Container> = containers
            .iter()
            .filter(|c| c.state == State::Running)
            .collect();
        self.running
            .retain(|id, _| alive.iter().any(|c| c.id == *id));
        self.results
            .lock()
            .retain(|id, _| alive.iter().any(|c| c.id == *id));
        for container in alive {
            let Some(definition) = spec::container(pod, &container.name) else {
                continue;
            };
            if !self.running.contains_key(&container.id) {
                let guard = self.start(pod, definition, container, pod_ip);
                self.running.insert(container.id.clone(), guard);
            }
        }
    }

    /// Ends all probes; results stay.
    pub(crate) fn stop(&mut self) {
        self.running.clear();
    }

    fn start(
        &self,
        pod: &Pod,
        definition: &Container,
        container: &observed::Container,
        pod_ip: &str,
    ) -> DropGuard {
        let cancel = CancellationToken::new();
        let has_startup = definition.startup_probe.is_some();
        let (started, startup_done) = watch::channel(!has_startup);
        let started = Arc::new(started);
        for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
            let Some(probe) = kind.of(definition) else {
                continue;
            };
            let task = Task {
                kind,
                probe: probe.clone(),
                pod: Arc::new(pod.clone()),
                definition: definition.clone(),
                id: container.id.clone(),
                started_at: observed::timestamp(container.started_at)
                    .unwrap_or_else(Timestamp::now),
                pod_ip: pod_ip.to_string(),
                cri: self.cri.clone(),
                recorder: self.recorder.clone(),
                results: self.results.clone(),
                changed: self.changed.clone(),
            };
            let (cancel, started, startup_done) =
                (cancel.clone(), started.clone(), startup_done.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = task.run(started, startup_done) => {}
                    () = cancel.cancelled() => {}
                }
            });
        }
        cancel.drop_guard()
    }
}

struct Task {
    kind: Kind,
    probe: Probe,
    pod: Arc<Pod>,
    definition: Container,
    id: String,
    started_at: Timestamp,
    pod_ip: String,
    cri: Cri,
    recorder: Recorder,
    results: Results,
    changed: Arc<Notify>,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        value
            .and_then(|v| u64::try_from(v).ok())
            .filter(|v| *v > 0)
            .unwrap_or(default),
    )
}

impl Task {
    async fn run(self, started: Arc<watch::Sender<bool>>, mut startup_done: watch::Receiver<bool>) {
        if self.kind != Kind::Startup && startup_done.wait_for(|done| *done).await.is_err() {
            return;
        }
        let age = Timestamp::now().duration_since(self.started_at);
        let delay = seconds(self.probe.initial_delay_seconds, 0)
            .saturating_sub(age.try_into().unwrap_or_default());
        tokio::time::sleep(delay).await;
        let mut ticks = tokio::time::interval(seconds(self.probe.period_seconds, 10));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut streak = Streak::default();
        loop {
            ticks.tick().await;
            let Some(success) = self.once().await else {
                continue;
            };
            let needed = if success {
                self.probe.success_threshold.unwrap_or(1)
            } else {
                self.probe.failure_threshold.unwrap_or(3)
            };
            if streak.add(success) < needed.max(1) {
                continue;
            }
            if self.kind.set(
                self.results.lock().entry(self.id.clone()).or_default(),
                success,
            ) {
                self.changed.notify_one();
            }
            if self.kind == Kind::Startup {
                started.send_replace(success);
                return;
            }
            if self.kind == Kind::Liveness && !success {
                // The container is on its way out: its successor has probes of its own.
                return;
            }
        }
    }

    /// One check: success, failure, or nothing to go by.
    async fn once(&self) -> Option<bool> {
        let limit = seconds(self.probe.timeout_seconds, 1);
        let outcome = check::check(
            &self.cri,
            &self.probe,
            &self.definition,
            &self.id,
            &self.pod_ip,
            limit,
        )
        .await;
        let name = Some(self.definition.name.as_str());
        match outcome {
            Outcome::Success => Some(true),
            Outcome::Failure(why) => {
                let message = format!("{} probe failed: {why}", self.kind.name());
                self.recorder.warning(&self.pod, name, "Unhealthy", message);
                Some(false)
            }
            Outcome::Unknown(why) => {
                let message = format!(
                    "{} probe errored and resulted in unknown state: {why}",
                    self.kind.name()
                );
                self.recorder.warning(&self.pod, name, "Unhealthy", message);
                None
            }
        }
    }
}

/// Equal results in a row.
#[derive(Default)]
struct Streak {
    last: Option<bool>,
    length: i32,
}

impl Streak {
    fn add(&mut self, success: bool) -> i32 {
        self.length = if self.last == Some(success) {
            self.length.saturating_add(1)
        } else {
            1
        };
        self.last = Some(success);
        self.length
    }
}
