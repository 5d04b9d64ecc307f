//! The steps of the decision taken for real: volumes, sandbox, containers.

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff;

use super::actions::{Action, KillReason};
use super::backoff::Backoff;
use super::mounts::{self, Mounts};
use super::observed::{State, Waiting};
use super::spec;
use super::worker::Worker;
use crate::container_config::{Inputs, container_config, log_path};
use crate::env::{Sources, environment};
use crate::pull::{Pull, describe};
use crate::{hooks, logs, sandbox_config};

/// Wait before a container that could not be created is tried again, as the kubelet's.
const CREATE_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Wait after a container that never started could not be removed.
const UNSTARTED_RETRY: SignedDuration = SignedDuration::from_secs(1);
/// Wait after a first failed pull; the next failures follow the backoff.
const PULL_RETRY: SignedDuration = SignedDuration::from_secs(2);

/// A container that did not start: what its status says, the event, and when to try again.
struct StartError {
    waiting: Waiting,
    event: String,
    retry_at: Timestamp,
}

impl StartError {
    fn new(reason: &str, message: String) -> StartError {
        let waiting = Waiting {
            reason: reason.into(),
            message: message.clone(),
        };
        StartError {
            waiting,
            event: format!("Error: {message}"),
            retry_at: Timestamp::now() + CREATE_RETRY,
        }
    }
}

impl Worker {
    /// Sets up volumes if need be, then takes the steps; true if something was done.
    pub(super) async fn effects(&mut self, pod: &Arc<Pod>, steps: Vec<Action>) -> bool {
        let Some(sources) = self.prepare(pod).await else {
            return false;
        };
        let mut acted = false;
        for step in steps {
            acted |= match step {
                Action::CreateSandbox { attempt } => self.create_sandbox(pod, attempt).await,
                Action::StopSandbox { id } => {
                    self.report_result("stop the sandbox", self.shared.cri.stop_sandbox(&id).await)
                }
                Action::RemoveSandbox { id } => self.report_result(
                    "remove the sandbox",
                    self.shared.cri.remove_sandbox(&id).await,
                ),
                Action::RemoveContainer { id } => self.remove_container(pod, &id).await,
                Action::Kill {
                    id,
                    name,
                    reason,
                    message,
                } => {
                    let grace = self.grace(pod, &name, reason);
                    self.kill(pod, &id, &name, grace, &message).await
                }
                Action::Start {
                    name,
                    restart_count,
                    crashed_at,
                } => {
                    // One at a time: the status tells of each as soon as it runs.
                    return self
                        .start(pod, &sources, &name, restart_count, crashed_at)
                        .await
                        || acted;
                }
                Action::Hold { .. } | Action::Finish => false,
            };
        }
        acted
    }

    fn report_result(&self, what: &str, result: Result<(), tonic::Status>) -> bool {
        if let Err(error) = &result {
            tracing::warn!(%error, "cannot {what}");
        }
        result.is_ok()
    }

    /// The pod's cgroup, objects and volumes.
    async fn prepare(&mut self, pod: &Pod) -> Option<Sources> {
        let fields = self.shared.fields(pod, self.observed.ready_sandbox());
        let sources = match self.shared.sources(pod).await {
            Ok(sources) => sources,
            Err(message) => return self.mount_failed(pod, message),
        };
        match self.shared.volumes.set_up(pod, &sources, &fields).await {
            Ok(mounted) => self.mounted = Some(mounted),
            Err(error) => return self.mount_failed(pod, error.to_string()),
        }
        Some(sources)
    }

    fn mount_failed(&mut self, pod: &Pod, message: String) -> Option<Sources> {
        self.shared
            .recorder
            .warning(pod, None, "FailedMount", message);
        self.failed();
        None
    }

    async fn create_sandbox(&mut self, pod: &Pod, attempt: u32) -> bool {
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.shared
                .recorder
                .normal(pod, None, "SandboxChanged", message);
        }
        self.shared.cgroups.create_pod(pod);
        let config = self.sandbox_config(pod, attempt);
        if let Err(error) = std::fs::create_dir_all(&config.log_directory) {
            tracing::warn!(%error, path = config.log_directory, "cannot create the log directory");
        }
        match self.shared.cri.run_sandbox(config).await {
            Ok(_) => {
                self.retry = None;
                true
            }
            Err(status) => {
                let message = format!("Failed to create pod sandbox: {}", describe(&status));
                self.shared
                    .recorder
                    .warning(pod, None, "FailedCreatePodSandBox", message);
                self.failed();
                false
            }
        }
    }

    fn sandbox_config(&self, pod: &Pod, attempt: u32) -> cri::PodSandboxConfig {
        let parent = self.shared.cgroups.pod_parent(pod);
        sandbox_config::sandbox_config(pod, attempt, &self.shared.dns, &parent)
    }

    async fn start(
        &mut self,
        pod: &Arc<Pod>,
        sources: &Sources,
        name: &str,
        restart_count: u32,
        crashed_at: Option<Timestamp>,
    ) -> bool {
        let Some(container) = spec::container(pod, name) else {
            return false;
        };
        if let Some(event) = crashed_at {
            let next = Backoff::next(
                self.observed.backoff.get(name).copied(),
                event,
                Timestamp::now(),
            );
            self.observed.backoff.insert(name.into(), next);
        }
        match self.try_start(pod, container, sources, restart_count).await {
            Ok(()) => {
                self.observed.waiting.remove(name);
                self.not_before.remove(name);
                true
            }
            Err(error) => {
                self.shared
                    .recorder
                    .warning(pod, Some(name), "Failed", error.event);
                self.observed.waiting.insert(name.into(), error.waiting);
                self.not_before.insert(name.into(), error.retry_at);
                // The status must say why: look and report again.
                true
            }
        }
    }

    async fn try_start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        sources: &Sources,
        restart_count: u32,
    ) -> Result<(), StartError> {
        let (sandbox_id, attempt) = match self.observed.ready_sandbox() {
            Some(sandbox) => (sandbox.id.clone(), sandbox.attempt),
            None => {
                return Err(StartError::new(
                    "CreateContainerError",
                    "the pod has no sandbox".into(),
                ));
            }
        };
        let sandbox = self.sandbox_config(pod, attempt);
        let log_directory = sandbox.log_directory.clone();
        let image = self.pull(pod, container, sources, sandbox.clone()).await?;
        let config = self
            .container_config(pod, container, sources, image, restart_count)
            .await;
        let config =
            config.map_err(|message| StartError::new("CreateContainerConfigError", message))?;
        self.remove_unstarted(&container.name).await?;
        if let Err(error) = mounts::create_log_directory(pod, &container.name) {
            tracing::warn!(%error, "cannot create the log directory");
        }
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox_id,
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        let name = Some(container.name.as_str());
        let created = self.shared.cri.create_container(request).await;
        let id = created
            .map_err(|s| StartError::new("CreateContainerError", s.message().to_string()))?;
        self.shared
            .recorder
            .normal(pod, name, "Created", "Container created");
        let started = self.shared.cri.start_container(&id).await;
        started.map_err(|s| StartError::new("RunContainerError", s.message().to_string()))?;
        self.shared
            .recorder
            .normal(pod, name, "Started", "Container started");
        let log = Path::new(&log_directory).join(log_path(&container.name, restart_count));
        let (namespace, pod_name) = (spec::namespace(pod), spec::name(pod));
        if let Err(error) = logs::link(namespace, pod_name, &container.name, &id, &log) {
            tracing::debug!(%error, "cannot link a log");
        }
        self.post_start(pod, container, &id).await
    }

    async fn pull(
        &mut self,
        pod: &Pod,
        container: &Container,
        sources: &Sources,
        sandbox: cri::PodSandboxConfig,
    ) -> Result<cri::Image, StartError> {
        let pull = Pull {
            cri: &self.shared.cri,
            recorder: &self.shared.recorder,
            pod,
            container,
            sources,
            sandbox,
        };
        pull.ensure(&mut self.pulls).await.map_err(|error| {
            let event = format!("Error: {}", error.waiting.reason);
            let delay = if error.waiting.reason == "ErrImagePull" {
                PULL_RETRY
            } else {
                CREATE_RETRY
            };
            let retry_at = error.retry_at.unwrap_or_else(|| Timestamp::now() + delay);
            StartError {
                waiting: error.waiting,
                event,
                retry_at,
            }
        })
    }

    async fn container_config(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        sources: &Sources,
        image: cri::Image,
        restart_count: u32,
    ) -> Result<cri::ContainerConfig, String> {
        let fields = self.shared.fields(pod, self.observed.ready_sandbox());
        let environment = environment(pod, container, sources, &fields)?;
        let mounted = self.mounted.clone().unwrap_or_default();
        let pod_dir = self.shared.volumes.pod_dir(spec::uid(pod));
        let domain = self.shared.dns.domain.clone();
        let (pod_for_mounts, container_for_mounts, variables) =
            (pod.clone(), container.clone(), environment.clone());
        let mounts = tokio::task::spawn_blocking(move || {
            Mounts {
                pod: &pod_for_mounts,
                container: &container_for_mounts,
                pod_dir,
                mounted: &mounted,
                environment: &variables,
                pod_ips: &fields.pod_ips,
                cluster_domain: &domain,
                restart_count,
            }
            .prepare()
        });
        let inputs = Inputs {
            image_ref: image.id,
            environment,
            mounts: mounts.await.map_err(|e| e.to_string())??,
            restart_count,
            image_uid: image.uid.map(|u| u.value),
            image_username: image.username,
            node_memory_bytes: self.shared.node_fields.memory_bytes,
            may_lower_oom_score: self.shared.may_lower_oom_score,
        };
        container_config(pod, container, inputs)
    }

    /// Removes a dead container and its log; true if it is gone.
    pub(super) async fn remove_container(&self, pod: &Pod, id: &str) -> bool {
        let removed = self.shared.cri.remove_container(id).await;
        if let (Ok(()), Some(c)) = (
            &removed,
            self.observed.containers.iter().find(|c| c.id == id),
        ) {
            let log = Path::new(&c.log_path);
            logs::remove(spec::namespace(pod), spec::name(pod), &c.name, id, log);
        }
        self.report_result("remove the container", removed)
    }

    /// A container that was created and never started would keep its name from the next. One whose start was cut off, by a killed
    /// agent, can be removed as soon as the runtime has given that start up.
    async fn remove_unstarted(&self, name: &str) -> Result<(), StartError> {
        for left in self
            .observed
            .containers
            .iter()
            .filter(|c| c.name == name && c.state == State::Created)
        {
            if let Err(status) = self.shared.cri.remove_container(&left.id).await {
                let message = status.message().to_string();
                let mut error = StartError::new("CreateContainerError", message);
                error.retry_at = Timestamp::now() + UNSTARTED_RETRY;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn post_start(
        &mut self,
        pod: &Pod,
        container: &Container,
        id: &str,
    ) -> Result<(), StartError> {
        let Some(hook) = container
            .lifecycle
            .as_ref()
            .and_then(|l| l.post_start.as_ref())
        else {
            return Ok(());
        };
        let pod_ip = self
            .shared
            .fields(pod, self.observed.ready_sandbox())
            .pod_ips
            .first()
            .cloned()
            .unwrap_or_default();
        let Err(why) = hooks::run(&self.shared.cri, hook, Some(container), id, &pod_ip).await
        else {
            return Ok(());
        };
        tracing::info!(why, container = container.name, "postStart hook failed");
        self.shared.recorder.warning(
            pod,
            Some(&container.name),
            "FailedPostStartHook",
            "PostStartHook failed",
        );
        self.kill(
            pod,
            id,
            &container.name,
            spec::grace_period_seconds(pod),
            "FailedPostStartHook",
        )
        .await;
        let mut error = StartError::new("PostStartHookError", "PostStartHook failed".into());
        error.retry_at = Timestamp::now();
        Err(error)
    }

    fn grace(&self, pod: &Pod, name: &str, reason: KillReason) -> i64 {
        let container = spec::container(pod, name);
        let of_probe = container.and_then(|c| match reason {
            KillReason::LivenessProbe => c.liveness_probe.as_ref(),
            KillReason::StartupProbe => c.startup_probe.as_ref(),
            _ => None,
        });
        of_probe
            .and_then(|p| p.termination_grace_period_seconds)
            .unwrap_or_else(|| spec::grace_period_seconds(pod))
    }
}
