//! Reads what this machine is and has: processors, memory, disk, names. Linux only.

use std::collections::BTreeMap;
use std::path::Path;

use super::eviction::{EvictionHard, Resource, Supply};
use crate::config::Reserve;

/// Facts about the machine that do not change while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) cpus: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    /// Bytes of huge pages, by page size as Kubernetes names it: `2Mi`.
    pub(crate) huge_pages: BTreeMap<String, u64>,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) architecture: &'static str,
}

/// What is free now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Free {
    pub(crate) memory: Supply,
    pub(crate) disk: Supply,
    pub(crate) inodes: Supply,
    pub(crate) processes: Supply,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_string()
}

fn meminfo(key: &str) -> u64 {
    let text = read("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    let kilobytes: u64 = line
        .and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    kilobytes * 1024
}

impl Machine {
    /// Reads the machine; disk space is that of the filesystem at `path`.
    pub(crate) fn read(path: &Path) -> Machine {
        let uname = nix::sys::utsname::uname().ok();
        let release = read("/etc/os-release");
        let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
        let disk = nix::sys::statvfs::statvfs(path).ok();
        let machine_id = [read("/etc/machine-id"), read("/var/lib/dbus/machine-id")];
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory_bytes: meminfo("MemTotal"),
            disk_bytes: disk.map_or(0, |d| d.blocks() * d.fragment_size()),
            huge_pages: huge_pages(),
            machine_id: machine_id
                .into_iter()
                .find(|id| !id.is_empty())
                .unwrap_or_default(),
            system_uuid: read("/sys/class/dmi/id/product_uuid"),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel: uname
                .map(|u| u.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            os_image: pretty.map_or("Linux".into(), |p| p.trim_matches('"').to_string()),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        }
    }
}

fn huge_pages() -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let one = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kilobytes: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let count: u64 = std::fs::read_to_string(entry.path().join("nr_hugepages"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let size = match kilobytes {
            k if k % (1 << 20) == 0 => format!("{}Gi", k >> 20),
            k if k % (1 << 10) == 0 => format!("{}Mi", k >> 10),
            k => format!("{k}Ki"),
        };
        Some((size, count * kilobytes * 1024))
    };
    entries.filter_map(one).collect()
}

impl Free {
    /// What is free now, on the filesystem at `path`.
    pub(crate) fn read(path: &Path) -> Free {
        let disk = nix::sys::statvfs::statvfs(path).ok();
        // `loadavg`'s fourth field is running/all.
        let load = read("/proc/loadavg");
        let processes = load
            .split_whitespace()
            .nth(3)
            .and_then(|f| f.split('/').nth(1)?.parse().ok())
            .unwrap_or(0);
        let process_limit: u64 = read("/proc/sys/kernel/pid_max").parse().unwrap_or(0);
        Free {
            memory: Supply {
                free: meminfo("MemAvailable"),
                all: meminfo("MemTotal"),
            },
            disk: disk.map_or_else(Supply::default, |d| Supply {
                free: d.blocks_available() * d.fragment_size(),
                all: d.blocks() * d.fragment_size(),
            }),
            inodes: disk.map_or_else(Supply::default, |d| Supply {
                free: d.files_available(),
                all: d.files(),
            }),
            processes: Supply {
                free: process_limit.saturating_sub(processes),
                all: process_limit,
            },
        }
    }
}

/// What pods may use: millicores, bytes of memory, bytes of disk.
///
/// What must stay free is not for pods, as the kubelet counts.
pub(crate) fn allocatable(
    machine: &Machine,
    reserve: &Reserve,
    eviction: &EvictionHard,
) -> (u64, u64, u64) {
    let left = |resource, all, reserved| {
        let held_back = eviction.least(resource, all) + reserved;
        u64::saturating_sub(all, held_back)
    };
    (
        (machine.cpus * 1000).saturating_sub(reserve.cpu_millis),
        left(Resource::Memory, machine.memory_bytes, reserve.memory_bytes),
        left(
            Resource::Disk,
            machine.disk_bytes,
            reserve.ephemeral_storage_bytes,
        ),
    )
}
