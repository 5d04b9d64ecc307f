//! The cgroup tree above containers: `kubepods`, its QoS classes, one group for each pod. Both versions of cgroups.
//!
//! Limits of a pod as a whole are written here; those of containers are the runtime's. A kernel that refuses is logged: pods run
//! without the outer limit rather than not at all.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::pod::spec;
use crate::resources::{self, CPU_PERIOD_US, QosClass};

/// Where the kernel shows cgroups.
const ROOT: &str = "/sys/fs/cgroup";
/// Controllers whose limits are written for pods.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Who makes cgroups below a parent: the runtime itself, or systemd by slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    Cgroupfs,
    Systemd,
}

/// The cgroup tree of this node.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    root: PathBuf,
    unified: bool,
    driver: Driver,
}

impl Cgroups {
    /// The tree as the kernel has it: version 2 where it has controllers, else version 1.
    pub(crate) fn detect(driver: Driver) -> Cgroups {
        let controllers =
            std::fs::read_to_string(format!("{ROOT}/cgroup.controllers")).unwrap_or_default();
        Cgroups {
            root: ROOT.into(),
            unified: !controllers.trim().is_empty(),
            driver,
        }
    }

    /// The parent that the runtime is told for a pod's containers.
    pub(crate) fn pod_parent(&self, pod: &Pod) -> String {
        pod_parent(resources::qos_class(pod), spec::uid(pod), self.driver)
    }

    /// Creates the pod's cgroup and writes its limits.
    pub(crate) fn create_pod(&self, pod: &Pod) {
        if self.driver == Driver::Systemd {
            return;
        }
        let parent = self.pod_parent(pod);
        let writes = if self.unified {
            limits_v2(pod)
        } else {
            limits_v1(pod)
        };
        for directory in self.directories(&parent) {
            if let Err(error) = self.create(&directory) {
                tracing::warn!(%error, path = %directory.display(), "cannot create the pod's cgroup");
            }
        }
        for (controller, file, value) in writes {
            let directory = self.directory(controller, &parent);
            if let Err(error) = std::fs::write(directory.join(file), &value) {
                tracing::debug!(%error, file, value, "cannot write a limit of the pod's cgroup");
            }
        }
    }

    /// Removes the pod's cgroup with what is below it, now empty.
    pub(crate) fn remove_pod(&self, uid: &str) {
        if self.driver == Driver::Systemd {
            return;
        }
        for class in [
            QosClass::Guaranteed,
            QosClass::Burstable,
            QosClass::BestEffort,
        ] {
            let parent = pod_parent(class, uid, Driver::Cgroupfs);
            for directory in self
                .all_controllers()
                .map(|d| d.join(parent.trim_start_matches('/')))
            {
                remove_tree(&directory);
            }
        }
    }

    /// The memory and CPU files' directory of a pod, for its statistics.
    pub(crate) fn directory(&self, controller: &str, parent: &str) -> PathBuf {
        let below = parent.trim_start_matches('/');
        if self.unified {
            self.root.join(below)
        } else {
            self.root.join(controller).join(below)
        }
    }

    fn directories(&self, parent: &str) -> Vec<PathBuf> {
        let count = if self.unified { 1 } else { CONTROLLERS.len() };
        CONTROLLERS[..count]
            .iter()
            .map(|c| self.directory(c, parent))
            .collect()
    }

    fn all_controllers(&self) -> Box<dyn Iterator<Item = PathBuf>> {
        if self.unified {
            return Box::new(std::iter::once(self.root.clone()));
        }
        let entries = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten();
        Box::new(entries.map(|e| e.path()).filter(|p| p.is_dir()))
    }

    fn create(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        if self.unified {
            let above: Vec<&Path> = directory
                .ancestors()
                .skip(1)
                .take_while(|p| p.starts_with(&self.root))
                .collect();
            for ancestor in above.into_iter().rev() {
                let wanted = "+cpu +memory +pids +cpuset +io";
                let _ = std::fs::write(ancestor.join("cgroup.subtree_control"), wanted);
            }
        }
        Ok(())
    }
}

fn pod_parent(class: QosClass, uid: &str, driver: Driver) -> String {
    let class = match class {
        QosClass::Guaranteed => "",
        QosClass::Burstable => "burstable",
        QosClass::BestEffort => "besteffort",
    };
    match (driver, class) {
        (Driver::Cgroupfs, "") => format!("/kubepods/pod{uid}"),
        (Driver::Cgroupfs, class) => format!("/kubepods/{class}/pod{uid}"),
        (Driver::Systemd, "") => format!("kubepods-pod{}.slice", uid.replace('-', "_")),
        (Driver::Systemd, class) => format!("kubepods-{class}-pod{}.slice", uid.replace('-', "_")),
    }
}

/// A line to write: controller, file, value.
type Write = (&'static str, &'static str, String);

fn limits_v1(pod: &Pod) -> Vec<Write> {
    let sum = resources::pod_resources(pod);
    let mut writes = vec![(
        "cpu",
        "cpu.shares",
        resources::cpu_shares(sum.cpu_request).to_string(),
    )];
    if sum.cpu_limit > 0 {
        writes.push(("cpu", "cpu.cfs_period_us", CPU_PERIOD_US.to_string()));
        writes.push((
            "cpu",
            "cpu.cfs_quota_us",
            resources::cpu_quota(sum.cpu_limit).to_string(),
        ));
    }
    if sum.memory_limit > 0 {
        writes.push((
            "memory",
            "memory.limit_in_bytes",
            sum.memory_limit.to_string(),
        ));
    }
    writes
}

fn limits_v2(pod: &Pod) -> Vec<Write> {
    let sum = resources::pod_resources(pod);
    // The kernel's weights are 1 to 10000 where shares were 2 to 262144.
    let weight = 1 + ((resources::cpu_shares(sum.cpu_request) - 2) * 9999) / 262_142;
    let mut writes = vec![("cpu", "cpu.weight", weight.to_string())];
    if sum.cpu_limit > 0 {
        writes.push((
            "cpu",
            "cpu.max",
            format!("{} {CPU_PERIOD_US}", resources::cpu_quota(sum.cpu_limit)),
        ));
    }
    if sum.memory_limit > 0 {
        writes.push(("memory", "memory.max", sum.memory_limit.to_string()));
    }
    writes
}

fn remove_tree(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    {
        remove_tree(&entry.path());
    }
    if let Err(error) = std::fs::remove_dir(directory) {
        tracing::debug!(%error, path = %directory.display(), "cannot remove a pod's cgroup");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_by_class_and_driver() {
        assert_eq!(
            pod_parent(QosClass::Guaranteed, "a-b", Driver::Cgroupfs),
            "/kubepods/poda-b"
        );
        assert_eq!(
            pod_parent(QosClass::BestEffort, "a-b", Driver::Cgroupfs),
            "/kubepods/besteffort/poda-b"
        );
        assert_eq!(
            pod_parent(QosClass::Burstable, "a-b", Driver::Systemd),
            "kubepods-burstable-poda_b.slice"
        );
    }
}
