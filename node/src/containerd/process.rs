//! One containerd process: spawn it, see whether it answers, wait for its end, ask it to end.
//!
//! A process that was started by an earlier run of the agent is not our child: its pid comes from the socket's peer
//! credentials and its end from a pidfd. It must not know when to restart.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::ContainerdError;
use super::config::{MachineFacts, Paths, program_path};
use super::dir_watch::async_fd;
use super::log_file;

/// How long containerd may take to end after SIGTERM before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A living containerd whose end can be awaited.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    fn of(pid: Pid) -> std::io::Result<Process> {
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        Ok(Process {
            pid,
            pidfd: async_fd(pidfd)?,
        })
    }

    /// The process that listens on a socket, if it answers.
    pub(super) async fn attached(socket: &Path) -> Option<Process> {
        let stream = UnixStream::connect(socket).await.ok()?;
        let pid = Pid::from_raw(stream.peer_cred().ok()?.pid()?)?;
        Process::of(pid).ok()
    }

    /// Starts containerd in a process group of its own, so that Ctrl-C in a terminal does not reach it.
    pub(super) fn spawn(paths: &Paths, facts: &MachineFacts) -> Result<Process, ContainerdError> {
        let log = log_file::open(&paths.log).map_err(|source| ContainerdError::File {
            action: "cannot open",
            path: paths.log.clone(),
            source,
        })?;
        let errors = log.try_clone().map_err(ContainerdError::Spawn)?;
        let mut child = Command::new(&facts.containerd)
            .arg("--config")
            .arg(&paths.config)
            .env("PATH", program_path())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors))
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(ContainerdError::Spawn)?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid =
            pid.ok_or_else(|| ContainerdError::Spawn(std::io::Error::other("it ended at once")))?;
        // A child has to be waited for, or it stays behind as a zombie.
        tokio::spawn(async move { child.wait().await });
        Process::of(pid).map_err(ContainerdError::Spawn)
    }

    /// The process id.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the process has ended.
    pub(super) async fn ended(&self) {
        // A pidfd is readable once its process has ended; an error can only mean the same.
        let _ = self.pidfd.readable().await;
    }

    /// Asks the process to end, and kills it when it takes too long.
    pub(super) async fn terminate(&self) {
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::TERM);
        if tokio::time::timeout(STOP_TIMEOUT, self.ended())
            .await
            .is_err()
        {
            let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
            self.ended().await;
        }
    }
}

/// Ends the containerd that listens on a socket, if there is one.
#[cfg(test)]
pub(super) async fn terminate(socket: &Path) {
    if let Some(process) = Process::attached(socket).await {
        process.terminate().await;
    }
}
