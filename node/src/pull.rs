//! Gets a container's image onto the node by its pull policy, with backoff between failures.

use std::collections::HashMap;
use std::time::Instant;

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff;

use crate::cri::Cri;
use crate::env::Sources;
use crate::events::Recorder;
use crate::keyring;
use crate::pod::backoff::Backoff;
use crate::pod::observed::Waiting;

/// An image that cannot be had now, as the container's waiting state shows it.
#[derive(Debug)]
pub(crate) struct PullError {
    pub(crate) waiting: Waiting,
    /// When to try again.
    pub(crate) retry_at: Option<Timestamp>,
}

/// Failed pulls of one pod, by image.
#[derive(Default)]
pub(crate) struct PullBackoff {
    failures: HashMap<String, (Backoff, Timestamp, String)>,
}

fn policy(container: &Container) -> &str {
    let image = container.image.as_deref().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or(image);
    let latest =
        !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    container
        .image_pull_policy
        .as_deref()
        .unwrap_or(if latest { "Always" } else { "IfNotPresent" })
}

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting {
        reason: reason.into(),
        message,
    }
}

/// One attempt to have an image.
pub(crate) struct Pull<'a> {
    pub(crate) cri: &'a Cri,
    pub(crate) recorder: &'a Recorder,
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) sources: &'a Sources,
    pub(crate) sandbox: cri::PodSandboxConfig,
}

impl Pull<'_> {
    /// The image on this node, pulled if the policy says so.
    pub(crate) async fn ensure(self, backoff: &mut PullBackoff) -> Result<cri::Image, PullError> {
        let image = self.container.image.clone().unwrap_or_default();
        let name = Some(self.container.name.as_str());
        let present = self.cri.image_status(&image).await.map_err(|status| {
            let message = format!("Failed to inspect image \"{image}\": {}", status.message());
            self.recorder
                .warning(self.pod, name, "InspectFailed", &message);
            PullError {
                waiting: waiting("ImageInspectError", message),
                retry_at: None,
            }
        })?;
        match (policy(self.container), present) {
            ("Never", None) => {
                let message =
                    format!("Container image \"{image}\" is not present with pull policy of Never");
                self.recorder
                    .warning(self.pod, name, "ErrImageNeverPull", &message);
                Err(PullError {
                    waiting: waiting("ErrImageNeverPull", message),
                    retry_at: None,
                })
            }
            ("Never" | "IfNotPresent", Some(found)) => {
                let message = format!(
                    "Container image \"{image}\" already present on machine and can be accessed by the pod"
                );
                self.recorder.normal(self.pod, name, "Pulled", message);
                Ok(found)
            }
            _ => self.pull(&image, backoff).await,
        }
    }

    async fn pull(self, image: &str, backoff: &mut PullBackoff) -> Result<cri::Image, PullError> {
        let name = Some(self.container.name.as_str());
        let now = Timestamp::now();
        if let Some((b, failed_at, why)) = backoff.failures.get(image)
            && let Some(until) = b.until(*failed_at, now)
        {
            let message = format!("Back-off pulling image \"{image}\"");
            self.recorder.normal(self.pod, name, "BackOff", &message);
            let full = format!("{message}: ErrImagePull: {why}");
            return Err(PullError {
                waiting: waiting("ImagePullBackOff", full),
                retry_at: Some(until),
            });
        }
        self.recorder.normal(
            self.pod,
            name,
            "Pulling",
            format!("Pulling image \"{image}\""),
        );
        let started = Instant::now();
        let pull_secrets = self
            .pod
            .spec
            .iter()
            .flat_map(|s| s.image_pull_secrets.iter().flatten());
        let secrets = pull_secrets
            .filter_map(|r| self.sources.secrets.get(&r.name))
            .map(|s| s.as_ref());
        let auth = keyring::credentials(image, secrets);
        let pulled = match self.cri.pull_image(image, auth, self.sandbox.clone()).await {
            Ok(reference) => self.cri.image_status(&reference).await,
            Err(status) => Err(status),
        };
        match pulled {
            Ok(Some(found)) => {
                backoff.failures.remove(image);
                let took = format!("{:.3}s", started.elapsed().as_secs_f64());
                let message = format!(
                    "Successfully pulled image \"{image}\" in {took} ({took} including waiting). Image size: {} bytes.",
                    found.size
                );
                self.recorder.normal(self.pod, name, "Pulled", message);
                Ok(found)
            }
            Ok(None) => Err(self.failed(image, "image not found after pulling".into(), backoff)),
            Err(status) => Err(self.failed(image, describe(&status), backoff)),
        }
    }

    fn failed(&self, image: &str, why: String, backoff: &mut PullBackoff) -> PullError {
        let now = Timestamp::now();
        let name = Some(self.container.name.as_str());
        self.recorder.warning(
            self.pod,
            name,
            "Failed",
            format!("Failed to pull image \"{image}\": {why}"),
        );
        let previous = backoff.failures.get(image).map(|(b, ..)| *b);
        let next = Backoff::next(previous, now, now);
        backoff
            .failures
            .insert(image.to_string(), (next, now, why.clone()));
        PullError {
            waiting: waiting("ErrImagePull", why),
            retry_at: None,
        }
    }
}

/// A runtime's error as the kubelet shows it.
pub(crate) fn describe(status: &tonic::Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_follows_the_tag() {
        let check = |image: &str, expect: &str| {
            let container = Container {
                image: Some(image.into()),
                ..Default::default()
            };
            assert_eq!(policy(&container), expect, "{image}");
        };
        check("a", "Always");
        check("a:latest", "Always");
        check("a:1", "IfNotPresent");
        check("r:5000/a", "Always");
        check("r:5000/a:1", "IfNotPresent");
        check("a@sha256:0", "IfNotPresent");
    }
}
