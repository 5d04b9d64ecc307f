//! containerd's configuration as text: a pure function of the paths and of what the machine offers.
//!
//! It must not know how containerd is started.

use std::path::{Path, PathBuf};

use super::{ContainerdConfig, ContainerdError};

/// The kernel's limit for a Unix socket path, in bytes, without the final zero.
const SOCKET_PATH_LIMIT: usize = 107;
/// CAP_SYS_RESOURCE as a bit number (`capabilities(7)`): needed to lower an `oom_score_adj`.
const CAP_SYS_RESOURCE: u32 = 24;
/// Where the reference CNI plugins are looked for: Debian's place first, then upstream's.
const CNI_BIN_DIRS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
/// Where programs are looked for besides `PATH`, which is short under systemd and cron.
const PROGRAM_DIRS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// Plugins of containerd that a CRI node has no use for; each costs memory or start time.
const DISABLED_PLUGINS: [&str; 7] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];

/// Every path that containerd is given.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) config: PathBuf,
    pub(super) root: PathBuf,
    pub(super) state: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
    pub(super) cni_conf_dir: PathBuf,
}

impl Paths {
    pub(super) fn new(config: &ContainerdConfig) -> Result<Paths, ContainerdError> {
        let agent =
            std::path::absolute(&config.agent_dir).map_err(|source| ContainerdError::File {
                action: "cannot resolve",
                path: config.agent_dir.clone(),
                source,
            })?;
        let base = agent.join("containerd");
        let paths = Paths {
            config: base.join("config.toml"),
            root: base.join("root"),
            state: base.join("state"),
            socket: base.join("containerd.sock"),
            log: base.join("containerd.log"),
            cni_conf_dir: crate::network::cni_conf_dir(&agent),
        };
        let longest = format!("{}.ttrpc", paths.socket.display());
        if longest.len() > SOCKET_PATH_LIMIT {
            let length = longest.len();
            return Err(ContainerdError::PathTooLong {
                path: longest,
                length,
                limit: SOCKET_PATH_LIMIT,
            });
        }
        Ok(paths)
    }
}

/// What the machine has; see [`machine_facts`].
#[derive(Debug, Clone)]
pub(super) struct MachineFacts {
    /// The containerd program.
    pub(super) containerd: PathBuf,
    /// The runc program.
    pub(super) runc: PathBuf,
    /// The directory of the CNI plugins.
    pub(super) cni_bin_dir: PathBuf,
    /// Whether this process may lower the `oom_score_adj` of others.
    pub(super) may_lower_oom_score: bool,
    /// Whether the kernel has overlayfs.
    pub(super) overlayfs: bool,
}

/// Looks for containerd, runc and the CNI plugins, and at what this process may do.
pub(super) fn machine_facts() -> Result<MachineFacts, ContainerdError> {
    let program = |program: &'static str, package: &'static str| {
        find_program(program).ok_or(ContainerdError::NotInstalled { program, package })
    };
    let cni_bin_dir = CNI_BIN_DIRS
        .iter()
        .map(PathBuf::from)
        .find(|dir| dir.join("bridge").exists() && dir.join("host-local").exists());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    Ok(MachineFacts {
        containerd: program("containerd", "containerd")?,
        runc: program("runc", "runc")?,
        cni_bin_dir: cni_bin_dir.ok_or(ContainerdError::NotInstalled {
            program: "the CNI plugin bridge",
            package: "containernetworking-plugins",
        })?,
        may_lower_oom_score: has_capability(&status, CAP_SYS_RESOURCE),
        // Not listed before the module is loaded, which mounting does by itself: then the module's file decides.
        overlayfs: filesystems.contains("overlay") || overlay_module_exists(),
    })
}

/// The path of an installed program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(PROGRAM_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn overlay_module_exists() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let dir = PathBuf::from("/lib/modules")
        .join(release.trim())
        .join("kernel/fs/overlayfs");
    dir.is_dir()
}

/// Whether the `CapEff` line of `/proc/PID/status` holds a capability.
fn has_capability(status: &str, bit: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << bit) != 0)
}

/// The `PATH` that containerd gets: its shim and runc lie in sbin directories, which a user's `PATH` may lack.
pub(super) fn program_path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).filter(|dir| !dir.as_os_str().is_empty());
    std::env::join_paths(dirs.chain(PROGRAM_DIRS.iter().map(PathBuf::from))).unwrap_or(path)
}

fn quoted(path: &Path) -> String {
    toml_string(&path.to_string_lossy())
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The configuration file. Version 2 is understood by containerd 1.3 to 2.x.
pub(super) fn render(paths: &Paths, facts: &MachineFacts, sandbox_image: &str) -> String {
    let disabled: Vec<String> = DISABLED_PLUGINS
        .iter()
        .map(|plugin| toml_string(plugin))
        .collect();
    let snapshotter = if facts.overlayfs {
        "overlayfs"
    } else {
        "native"
    };
    format!(
        r#"# Written by xebec at every start: changes here are lost.
version = 2
root = {root}
state = {state}
disabled_plugins = [{disabled}]
oom_score = 0

[grpc]
  address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {sandbox}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = {restrict}
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  max_container_log_line_size = 16384

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = {runc}
  SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {cni_bin}
  conf_dir = {cni_conf}
"#,
        root = quoted(&paths.root),
        state = quoted(&paths.state),
        disabled = disabled.join(", "),
        socket = quoted(&paths.socket),
        sandbox = toml_string(sandbox_image),
        restrict = !facts.may_lower_oom_score,
        runc = quoted(&facts.runc),
        cni_bin = quoted(&facts.cni_bin_dir),
        cni_conf = quoted(&paths.cni_conf_dir),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> MachineFacts {
        MachineFacts {
            containerd: "/usr/bin/containerd".into(),
            runc: "/usr/sbin/runc".into(),
            cni_bin_dir: "/usr/lib/cni".into(),
            may_lower_oom_score: false,
            overlayfs: true,
        }
    }

    fn paths(agent_dir: &str) -> Result<Paths, ContainerdError> {
        Paths::new(&ContainerdConfig {
            agent_dir: agent_dir.into(),
            sandbox_image: String::new(),
        })
    }

    #[test]
    fn machine_decides_oom_and_snapshotter() {
        let paths = paths("/var/lib/xebec/agent").expect("short path");
        let text = render(&paths, &facts(), "localhost/xebec/pause:1");
        assert!(text.contains("restrict_oom_score_adj = true"), "{text}");
        assert!(text.contains(r#"snapshotter = "overlayfs""#), "{text}");
        assert!(
            text.contains(r#"address = "/var/lib/xebec/agent/containerd/containerd.sock""#),
            "{text}"
        );
        let rich = MachineFacts {
            may_lower_oom_score: true,
            overlayfs: false,
            ..facts()
        };
        let text = render(&paths, &rich, "p");
        assert!(text.contains("restrict_oom_score_adj = false"), "{text}");
        assert!(text.contains(r#"snapshotter = "native""#), "{text}");
    }

    #[test]
    fn long_data_directory_is_refused() {
        let error = paths(&format!("/{}", "d".repeat(100))).expect_err("too long");
        assert!(error.to_string().contains("at most 107"), "{error}");
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let status = "CapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\n";
        assert!(!has_capability(status, CAP_SYS_RESOURCE));
        assert!(has_capability(
            "CapEff:\t000001ffffffffff\n",
            CAP_SYS_RESOURCE
        ));
        assert!(!has_capability("", CAP_SYS_RESOURCE));
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(toml_string("a\"b\\c\n"), r#""a\"b\\c\u000A""#);
    }
}
