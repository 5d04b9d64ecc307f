//! A pod's volumes on this node: set up before its containers, refreshed when their objects change, torn down after.
//!
//! Each volume is a directory below `DATA_DIR/agent/pods/UID/volumes/`, named as the kubelet names it. Setting up is idempotent: a
//! restart of the agent does it again and changes nothing. It must not know containers but for the user that they run as.

mod atomic;
mod content;
mod host_path;
mod ownership;
mod subpath;
mod tmpfs;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use k8s_openapi::jiff;

use crate::env::Sources;
use crate::fieldref::NodeFields;
use crate::pod::spec;
use crate::quantity;

pub(crate) use subpath::bind as bind_subpath;
pub(crate) use tokens::Tokens;

/// Why a volume cannot be used, in the words of the `FailedMount` event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
pub(crate) struct VolumeError {
    pub(crate) volume: String,
    pub(crate) message: String,
}

/// The pod's volumes, ready to be mounted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mounted {
    /// Where each volume is on the node.
    pub(crate) paths: BTreeMap<String, PathBuf>,
    /// When a token in them must be renewed.
    pub(crate) refresh_at: Option<Timestamp>,
}

/// Sets up and tears down volumes.
pub(crate) struct Volumes {
    pods_dir: PathBuf,
    tokens: Tokens,
}

impl Volumes {
    /// Volumes below `agent_dir`; tokens are asked of the API through `client`.
    pub(crate) fn new(agent_dir: &Path, client: kube::Client) -> Volumes {
        Volumes {
            pods_dir: agent_dir.join("pods"),
            tokens: Tokens::new(client),
        }
    }

    /// The directory of everything of a pod.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir.join(uid)
    }

    /// The uids of pods that have a directory here.
    pub(crate) fn known_pods(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.pods_dir)
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Sets up all volumes, or brings their content up to date.
    pub(crate) async fn set_up(
        &self,
        pod: &Pod,
        sources: &Sources,
        node: &NodeFields,
    ) -> Result<Mounted, VolumeError> {
        let mut mounted = Mounted::default();
        for volume in spec::volumes(pod) {
            let fail = |message: String| VolumeError {
                volume: volume.name.clone(),
                message,
            };
            let (path, refresh_at) = self
                .set_up_one(pod, volume, sources, node)
                .await
                .map_err(fail)?;
            mounted.paths.insert(volume.name.clone(), path);
            mounted.refresh_at = [mounted.refresh_at, refresh_at].into_iter().flatten().min();
        }
        Ok(mounted)
    }

    async fn set_up_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        sources: &Sources,
        node: &NodeFields,
    ) -> Result<(PathBuf, Option<Timestamp>), String> {
        if let Some(source) = &volume.host_path {
            let source = source.clone();
            return blocking(move || host_path::check(&source))
                .await
                .map(|path| (path, None));
        }
        let plugin = plugin(volume).ok_or_else(|| "no volume plugin matched".to_string())?;
        let uid = spec::uid(pod);
        let directory = self
            .pod_dir(uid)
            .join("volumes")
            .join(format!("kubernetes.io~{plugin}"))
            .join(&volume.name);
        let group = pod
            .spec
            .as_ref()
            .and_then(|s| s.security_context.as_ref())
            .and_then(|c| c.fs_group);
        if let Some(source) = &volume.empty_dir {
            let memory = source.medium.as_deref() == Some("Memory");
            let limit = source
                .size_limit
                .as_ref()
                .map(quantity::value)
                .filter(|bytes| *bytes > 0);
            let at = directory.clone();
            blocking(move || empty_dir(&at, memory, limit, group)).await?;
            return Ok((directory, None));
        }
        let (files, refresh_at) = content::files(pod, volume, sources, node, &self.tokens).await?;
        // What is secret never reaches a disk.
        let in_memory = plugin != "configmap";
        let at = directory.clone();
        blocking(move || {
            std::fs::create_dir_all(&at).map_err(text)?;
            if in_memory {
                tmpfs::mount(&at, None)?;
            }
            atomic::write(&at, &files, group).map_err(text)
        })
        .await?;
        Ok((directory, refresh_at))
    }

    /// Unmounts and removes all that is of the pod.
    pub(crate) async fn tear_down(&self, uid: &str) -> Result<(), String> {
        self.tokens.forget(uid);
        let directory = self.pod_dir(uid);
        blocking(move || {
            tmpfs::unmount_below(&directory)?;
            match std::fs::remove_dir_all(&directory) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(text(e)),
                _ => Ok(()),
            }
        })
        .await
    }
}

fn plugin(volume: &Volume) -> Option<&'static str> {
    Some(match volume {
        v if v.empty_dir.is_some() => "empty-dir",
        v if v.config_map.is_some() => "configmap",
        v if v.secret.is_some() => "secret",
        v if v.downward_api.is_some() => "downward-api",
        v if v.projected.is_some() => "projected",
        _ => return None,
    })
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

fn empty_dir(
    path: &Path,
    memory: bool,
    limit: Option<i64>,
    group: Option<i64>,
) -> Result<(), String> {
    let fresh = !path.exists();
    std::fs::create_dir_all(path).map_err(text)?;
    if memory {
        tmpfs::mount(path, limit)?;
    }
    if fresh {
        ownership::open_to_all(path).map_err(text)?;
        ownership::give_to_group(path, group, false).map_err(text)?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| e.to_string())?
}

/// What volumes are made of, shared by all pods.
pub(crate) type SharedVolumes = Arc<Volumes>;
