//! A containerd of our own: configured, started, watched and restarted under `DATA_DIR/agent`.
//!
//! It is here so that `xebec server` needs nothing set up beforehand but the installed packages. containerd and its
//! shims outlive this process on purpose: a new start attaches to a living containerd, and containers keep running.
//! It must not know pods, images or the Kubernetes API.

mod config;
mod dir_watch;
mod log_file;
mod process;
#[cfg(test)]
mod real_tests;
mod supervisor;

use std::path::PathBuf;

pub(crate) use config::find_program;
pub(crate) use dir_watch::DirWatch;
use tokio_util::sync::CancellationToken;

/// What the supervisor needs to know; everything else follows from the machine.
#[derive(Debug, Clone)]
pub struct ContainerdConfig {
    /// `DATA_DIR/agent`. containerd keeps its root, state and socket in `containerd/` below it.
    pub agent_dir: PathBuf,
    /// The image that holds a pod's namespaces, such as [`crate::images::PAUSE_IMAGE`].
    pub sandbox_image: String,
}

/// Why containerd could not be started or kept running.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// A program is not installed; the text names the package and the command that installs it.
    #[error("{program} is not installed: install it with `apt-get install {package}`")]
    NotInstalled {
        /// The program looked for.
        program: &'static str,
        /// The Debian and Ubuntu package that has it.
        package: &'static str,
    },
    /// A Unix socket path is limited by the kernel to 107 bytes.
    #[error(
        "data directory path is too long for containerd's sockets: {path} has {length} bytes, at most {limit} are possible"
    )]
    PathTooLong {
        /// The socket's path.
        path: String,
        /// Its length in bytes.
        length: usize,
        /// The greatest length in bytes.
        limit: usize,
    },
    /// A file or directory could not be written.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The program did not start at all.
    #[error("cannot start containerd: {0}")]
    Spawn(#[source] std::io::Error),
    /// containerd ended, or did not answer in time.
    #[error("containerd did not become ready: {reason}; its log is {log}")]
    NotReady {
        /// What was seen, with the log's last error line.
        reason: String,
        /// The log's path.
        log: PathBuf,
    },
}

/// A running containerd. Dropping it stops the supervision, never containerd.
#[derive(Debug)]
pub struct Containerd {
    paths: config::Paths,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Containerd {
    /// Attaches to our living containerd, or starts one and waits until its socket answers.
    ///
    /// From then on a containerd that ends is started again, with a growing delay.
    pub async fn start(config: &ContainerdConfig) -> Result<Containerd, ContainerdError> {
        supervisor::start(config).await
    }

    /// The CRI endpoint, `unix:///…/containerd.sock`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.paths.socket.display())
    }

    /// The socket's path, as `ctr --address` wants it.
    pub fn address(&self) -> PathBuf {
        self.paths.socket.clone()
    }

    /// Ends the supervision and leaves containerd and all containers running, as a restart of the agent wants it.
    pub async fn detach(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }

    /// Stops containerd itself. The shims, and so the containers, keep running.
    #[cfg(test)]
    pub(crate) async fn stop(self) {
        let socket = self.paths.socket.clone();
        self.detach().await;
        process::terminate(&socket).await;
    }
}
