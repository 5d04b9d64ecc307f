//! A container's mounts: its volumes, `/etc/hosts` and the place for its termination message.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::spec;
use crate::container_config::termination_message_path;
use crate::expand::expand;
use crate::resolv;
use crate::volumes::{Mounted, bind_subpath};

/// What mounts are made of.
pub(super) struct Mounts<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    /// The directory of all that is the pod's.
    pub(super) pod_dir: PathBuf,
    pub(super) mounted: &'a Mounted,
    pub(super) environment: &'a [(String, String)],
    pub(super) pod_ips: &'a [String],
    pub(super) cluster_domain: &'a str,
    pub(super) restart_count: u32,
}

impl Mounts<'_> {
    /// All mounts in order, or why one cannot be made. Touches the disk: not for a runtime thread.
    pub(super) fn prepare(&self) -> Result<Vec<cri::Mount>, String> {
        let mut mounts = Vec::new();
        for (index, mount) in self.container.volume_mounts.iter().flatten().enumerate() {
            mounts.push(self.volume(index, mount)?);
        }
        let own_hosts = mounts.iter().any(|m| m.container_path == "/etc/hosts");
        if !own_hosts {
            mounts.push(self.hosts()?);
        }
        mounts.push(self.termination_log()?);
        Ok(mounts)
    }

    fn volume(&self, index: usize, mount: &VolumeMount) -> Result<cri::Mount, String> {
        let volume = self.mounted.paths.get(&mount.name);
        let mut path = volume
            .cloned()
            .ok_or_else(|| format!("volume \"{}\" is not mounted", mount.name))?;
        if let Some(subpath) = self.subpath(mount)? {
            let place = self
                .pod_dir
                .join("volume-subpaths")
                .join(&mount.name)
                .join(&self.container.name);
            path = bind_subpath(&path, &subpath, &place.join(index.to_string()))?;
        }
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
            _ => cri::MountPropagation::PropagationPrivate,
        };
        let container_path = &mount.mount_path;
        Ok(cri::Mount {
            container_path: if container_path.starts_with('/') {
                container_path.clone()
            } else {
                format!("/{container_path}")
            },
            host_path: path.display().to_string(),
            readonly: mount.read_only.unwrap_or(false),
            propagation: propagation.into(),
            ..Default::default()
        })
    }

    fn subpath(&self, mount: &VolumeMount) -> Result<Option<String>, String> {
        let expression = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty());
        let plain = mount.sub_path.clone().filter(|s| !s.is_empty());
        let subpath = match expression {
            Some(expression) => {
                let missing = std::cell::Cell::new(false);
                let lookup = |name: &str| {
                    let found = self
                        .environment
                        .iter()
                        .rev()
                        .find(|(n, _)| n == name)
                        .map(|(_, v)| v.clone());
                    missing.set(missing.get() || found.is_none());
                    found
                };
                let expanded = expand(expression, lookup);
                if missing.get() {
                    return Err(format!("missing value for subPathExpr \"{expression}\""));
                }
                Some(expanded)
            }
            None => plain,
        };
        match subpath {
            Some(path) if path.starts_with('/') => Err(format!(
                "error SubPath `{path}` must not be an absolute path"
            )),
            Some(path) if path.split('/').any(|p| p == "..") => Err(format!(
                "unable to provision SubPath `{path}`: must not contain '..'"
            )),
            other => Ok(other),
        }
    }

    fn hosts(&self) -> Result<cri::Mount, String> {
        let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let text = resolv::hosts_file(self.pod, self.pod_ips, &host, self.cluster_domain);
        let path = self.pod_dir.join("etc-hosts");
        write_if_changed(&path, &text, 0o644)?;
        Ok(cri::Mount {
            container_path: "/etc/hosts".into(),
            host_path: path.display().to_string(),
            ..Default::default()
        })
    }

    fn termination_log(&self) -> Result<cri::Mount, String> {
        let directory = self.pod_dir.join("containers").join(&self.container.name);
        std::fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
        let path = directory.join(format!("termination-{}", self.restart_count));
        // A left-over of a failed start must not speak for this one.
        let _ = std::fs::remove_file(&path);
        write_if_changed(&path, "", 0o666)?;
        Ok(cri::Mount {
            container_path: termination_message_path(self.container).to_string(),
            host_path: path.display().to_string(),
            ..Default::default()
        })
    }
}

fn write_if_changed(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(|e| e.to_string())?;
    // Written in place: running containers have this very file mounted.
    std::fs::write(path, text).map_err(|e| e.to_string())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|e| e.to_string())
}

/// The containers' log directory, which the runtime expects to exist.
pub(super) fn create_log_directory(pod: &Pod, container: &str) -> std::io::Result<()> {
    let directory =
        crate::sandbox_config::log_directory(spec::namespace(pod), spec::name(pod), spec::uid(pod));
    std::fs::create_dir_all(Path::new(&directory).join(container))
}
