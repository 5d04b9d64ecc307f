//! The end of a pod: hooks, grace, sandbox, volumes, last status, and for a deleted pod the object itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};
use k8s_openapi::jiff;
use kube::api::{Api, DeleteParams, Preconditions};

use super::observed::{Container, State};
use super::spec;
use super::worker::{Desired, Next, Worker};
use crate::api;
use crate::hooks;
use crate::shared::Shared;

/// What is left to a container after a preStop hook used up its time, in seconds.
const MINIMUM_GRACE_SECONDS: i64 = 2;
/// Wait after something could not be cleared away.
const RETRY: SignedDuration = SignedDuration::from_secs(2);

/// One container to be killed.
struct Kill<'a> {
    shared: &'a Shared,
    pod: &'a Pod,
    id: &'a str,
    name: &'a str,
    grace_seconds: i64,
    message: &'a str,
    pod_ip: &'a str,
}

impl Kill<'_> {
    /// preStop within the grace period, then the runtime's stop with what is left of it; false if it does not stop.
    async fn run(self) -> bool {
        let started = Instant::now();
        self.shared
            .recorder
            .normal(self.pod, Some(self.name), "Killing", self.message);
        if self.grace_seconds > 0
            && let Some(hook) = self.pre_stop()
        {
            self.run_hook(hook).await;
        }
        let used = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
        let left = if self.grace_seconds <= 0 {
            0
        } else {
            (self.grace_seconds - used).max(MINIMUM_GRACE_SECONDS)
        };
        match self.shared.cri.stop_container(self.id, left).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, container = self.name, "cannot stop the container");
                false
            }
        }
    }

    fn pre_stop(&self) -> Option<&LifecycleHandler> {
        spec::container(self.pod, self.name)?
            .lifecycle
            .as_ref()?
            .pre_stop
            .as_ref()
    }

    async fn run_hook(&self, hook: &LifecycleHandler) {
        let limit = Duration::from_secs(self.grace_seconds.unsigned_abs());
        let container = spec::container(self.pod, self.name);
        let run = hooks::run(&self.shared.cri, hook, container, self.id, self.pod_ip);
        match tokio::time::timeout(limit, run).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                tracing::info!(why, container = self.name, "preStop hook failed");
                self.shared.recorder.warning(
                    self.pod,
                    Some(self.name),
                    "FailedPreStopHook",
                    "PreStopHook failed",
                );
            }
            Err(_) => tracing::info!(
                container = self.name,
                "preStop hook did not complete in its grace period"
            ),
        }
    }
}

impl Worker {
    /// Kills one container; true if it is dead.
    pub(super) async fn kill(
        &self,
        pod: &Pod,
        id: &str,
        name: &str,
        grace_seconds: i64,
        message: &str,
    ) -> bool {
        let pod_ip = self.pod_ip(pod);
        Kill {
            shared: &self.shared,
            pod,
            id,
            name,
            grace_seconds,
            message,
            pod_ip: &pod_ip,
        }
        .run()
        .await
    }

    fn pod_ip(&self, pod: &Pod) -> String {
        self.shared
            .fields(pod, self.observed.ready_sandbox())
            .pod_ips
            .first()
            .cloned()
            .unwrap_or_default()
    }

    /// Ends a deleted pod, up to its object in the API.
    pub(super) async fn terminate(&mut self, desired: &Desired) -> Next {
        let pod = &desired.pod;
        self.observed.terminating = true;
        let grace = spec::grace_period_seconds(pod);
        if !self.stop_all(pod, grace, desired.gone).await {
            return Next::Wait(Some(Timestamp::now() + RETRY));
        }
        if self.desired.has_changed().unwrap_or(false) {
            // A shorter grace period, or the object's end.
            let now = self.desired.borrow().clone();
            if now.gone && !desired.gone {
                return Next::Again;
            }
        }
        if !self.clean_up(pod).await {
            return Next::Wait(Some(Timestamp::now() + RETRY));
        }
        if !desired.gone {
            self.observed.finished = true;
            self.report(pod, Timestamp::now());
            if let Some(writer) = self.status.take() {
                let mut gone = self.desired.clone();
                tokio::select! {
                    () = writer.finish() => {}
                    _ = gone.wait_for(|d| d.gone) => {}
                }
            }
            if let Err(error) = self.delete_object(pod).await {
                tracing::debug!(%error, "cannot delete the pod's object");
                return Next::Wait(Some(Timestamp::now() + RETRY));
            }
        }
        self.remove_traces(pod).await;
        Next::Done
    }

    /// Ends a pod that has run to its end, or must not run any longer; its object and its logs stay.
    pub(super) async fn finish(&mut self, pod: &Arc<Pod>) -> Next {
        if self.observed.finished {
            return Next::Wait(None);
        }
        let grace = spec::grace_period_seconds(pod);
        if !self.stop_all(pod, grace, false).await || !self.clean_up(pod).await {
            return Next::Wait(Some(Timestamp::now() + RETRY));
        }
        self.observed.finished = true;
        self.report(pod, Timestamp::now());
        Next::Wait(None)
    }

    /// Kills all containers, sidecars after the others, and stops the sandboxes; false if something still runs.
    async fn stop_all(&mut self, pod: &Arc<Pod>, grace: i64, gone: bool) -> bool {
        if !self.look().await {
            return false;
        }
        if !gone {
            self.report(pod, Timestamp::now());
        }
        let mut shorter = self.desired.clone();
        let sooner = |d: &Desired| {
            (d.gone && !gone) || (d.ending() && spec::grace_period_seconds(&d.pod) < grace)
        };
        let interrupted = tokio::select! {
            biased;
            _ = shorter.wait_for(sooner) => true,
            () = self.kill_all(pod, grace) => false,
        };
        if interrupted {
            let now = self.desired.borrow().clone();
            let grace = if now.gone {
                0
            } else {
                spec::grace_period_seconds(&now.pod)
            };
            self.kill_all(pod, grace).await;
        }
        self.probes.stop();
        let sandboxes: Vec<String> = self
            .observed
            .sandboxes
            .iter()
            .map(|s| s.id.clone())
            .collect();
        for id in sandboxes {
            if let Err(error) = self.shared.cri.stop_sandbox(&id).await {
                tracing::warn!(%error, "cannot stop the sandbox");
                return false;
            }
        }
        self.look().await
            && !self
                .observed
                .containers
                .iter()
                .any(|c| matches!(c.state, State::Running | State::Unknown))
    }

    async fn kill_all(&self, pod: &Pod, grace: i64) {
        let started = Instant::now();
        let is_sidecar =
            |c: &&Container| spec::container(pod, &c.name).is_some_and(spec::is_sidecar);
        let (mut sidecars, others): (Vec<&Container>, Vec<&Container>) =
            self.observed.running().partition(is_sidecar);
        let pod_ip = self.pod_ip(pod);
        let kill = |c: &Container, grace_seconds: i64| {
            let (id, name) = (c.id.clone(), c.name.clone());
            let message = format!("Stopping container {name}");
            let pod_ip = pod_ip.clone();
            async move {
                let kill = Kill {
                    shared: &self.shared,
                    pod,
                    id: &id,
                    name: &name,
                    grace_seconds,
                    message: &message,
                    pod_ip: &pod_ip,
                };
                kill.run().await
            }
        };
        join_all(others.into_iter().map(|c| kill(c, grace))).await;
        let order = |c: &&Container| {
            spec::init_containers(pod)
                .iter()
                .position(|i| i.name == c.name)
        };
        sidecars.sort_by_key(|c| std::cmp::Reverse(order(c)));
        for sidecar in sidecars {
            let used = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
            kill(sidecar, (grace - used).max(0)).await;
        }
    }

    /// Gives back what the pod used; false if it must be tried again.
    async fn clean_up(&mut self, pod: &Pod) -> bool {
        let uid = spec::uid(pod);
        self.shared.host_ports.remove(uid);
        self.shared.config_maps.release(uid);
        self.shared.secrets.release(uid);
        self.mounted = None;
        self.shared.cgroups.remove_pod(uid);
        match self.shared.volumes.tear_down(uid).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error, "cannot clean up the pod's volumes");
                false
            }
        }
    }

    async fn delete_object(&self, pod: &Pod) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), spec::namespace(pod));
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..Default::default()
        };
        match api.delete(spec::name(pod), &parameters).await {
            Ok(_) => Ok(()),
            Err(error) if api::is_not_found(&error) || api::is_conflict(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes dead containers, sandboxes and logs of a pod that nobody will ask for.
    async fn remove_traces(&self, pod: &Pod) {
        for container in &self.observed.containers {
            self.remove_container(pod, &container.id).await;
        }
        for sandbox in &self.observed.sandboxes {
            if let Err(error) = self.shared.cri.remove_sandbox(&sandbox.id).await {
                tracing::warn!(%error, "cannot remove a stopped sandbox");
            }
        }
        let logs = crate::sandbox_config::log_directory(
            spec::namespace(pod),
            spec::name(pod),
            spec::uid(pod),
        );
        let _ = tokio::fs::remove_dir_all(logs).await;
    }
}
