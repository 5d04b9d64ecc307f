//! Keeps one containerd alive: attach or start, wait until it answers, restart with a growing delay.
//!
//! It must not know what containerd is used for.

use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::WatchFlags;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::{MachineFacts, Paths, machine_facts, render};
use super::dir_watch::DirWatch;
use super::process::Process;
use super::{Containerd, ContainerdConfig, ContainerdError, log_file};

/// How long containerd may take from its start until its socket answers.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The first delay before a restart; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest delay before a restart.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// A containerd that has lived this long starts again without delay.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// How often the log's size is looked at.
const LOG_CHECK: Duration = Duration::from_secs(300);

pub(super) async fn start(config: &ContainerdConfig) -> Result<Containerd, ContainerdError> {
    let facts = machine_facts()?;
    let paths = Paths::new(config)?;
    let text = render(&paths, &facts, &config.sandbox_image);
    let process = attach_or_spawn(&paths, &facts, &text).await?;
    let stop = CancellationToken::new();
    let supervised = Supervised {
        paths: paths.clone(),
        facts,
    };
    let task = tokio::spawn(supervised.run(process, stop.clone()));
    Ok(Containerd { paths, stop, task })
}

async fn attach_or_spawn(
    paths: &Paths,
    facts: &MachineFacts,
    text: &str,
) -> Result<Process, ContainerdError> {
    create_directories(paths)?;
    let same_config = std::fs::read_to_string(&paths.config).is_ok_and(|old| old == text);
    if let Some(process) = Process::attached(&paths.socket).await {
        if same_config {
            tracing::info!(pid = process.pid(), "attached to the running containerd");
            return Ok(process);
        }
        tracing::info!(
            pid = process.pid(),
            "restarting containerd: its configuration has changed"
        );
        process.terminate().await;
    }
    write(&paths.config, text)?;
    spawn_ready(paths, facts).await
}

async fn spawn_ready(paths: &Paths, facts: &MachineFacts) -> Result<Process, ContainerdError> {
    log_file::rotate(&paths.log)
        .map_err(|source| file_error("cannot rotate", &paths.log, source))?;
    let changes = watch_directory(paths)?;
    // What a killed containerd left behind would only be mistaken for a new one's socket.
    let _ = std::fs::remove_file(&paths.socket);
    let process = Process::spawn(paths, facts)?;
    let not_ready = |reason: String| {
        let reason = match log_file::last_error(&paths.log) {
            Some(line) => format!("{reason} ({line})"),
            None => reason,
        };
        ContainerdError::NotReady {
            reason,
            log: paths.log.clone(),
        }
    };
    tokio::select! {
        () = process.ended() => return Err(not_ready("it ended".to_owned())),
        () = answers(&changes, &paths.socket) => {}
        () = tokio::time::sleep(READY_TIMEOUT) => {
            process.terminate().await;
            return Err(not_ready(format!("no answer in {} s", READY_TIMEOUT.as_secs())));
        }
    }
    tracing::info!(pid = process.pid(), socket = %paths.socket.display(), "containerd is ready");
    Ok(process)
}

/// Waits until the socket answers.
async fn answers(changes: &DirWatch, socket: &Path) {
    while tokio::net::UnixStream::connect(socket).await.is_err() {
        if changes.changes().await.is_err() {
            // Without notifications the timeout decides.
            std::future::pending::<()>().await;
        }
    }
}

fn watch_directory(paths: &Paths) -> Result<DirWatch, ContainerdError> {
    let dir = paths
        .socket
        .parent()
        .expect("the socket lies in a directory of ours");
    // The socket exists a moment before it accepts; what containerd logs next wakes us again.
    let events = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MODIFY;
    DirWatch::new(dir, events).map_err(|source| file_error("cannot watch", dir, source))
}

struct Supervised {
    paths: Paths,
    facts: MachineFacts,
}

impl Supervised {
    async fn run(self, mut process: Process, stop: CancellationToken) {
        let mut delay = FIRST_DELAY;
        loop {
            let started = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.until_ended(&process) => {}
            }
            if started.elapsed() >= STABLE_AFTER {
                delay = FIRST_DELAY;
            }
            tracing::warn!(pid = process.pid(), log = %self.paths.log.display(), "containerd ended; starting it again");
            process = tokio::select! {
                () = stop.cancelled() => return,
                process = self.restart(&mut delay) => process,
            };
        }
    }

    async fn until_ended(&self, process: &Process) {
        let mut log_check = tokio::time::interval(LOG_CHECK);
        loop {
            tokio::select! {
                () = process.ended() => return,
                _ = log_check.tick() => {
                    if let Err(error) = log_file::rotate(&self.paths.log) {
                        tracing::warn!(%error, log = %self.paths.log.display(), "cannot rotate containerd's log");
                    }
                }
            }
        }
    }

    async fn restart(&self, delay: &mut Duration) -> Process {
        loop {
            tokio::time::sleep(*delay).await;
            *delay = (*delay * 2).min(MAX_DELAY);
            match spawn_ready(&self.paths, &self.facts).await {
                Ok(process) => return process,
                Err(error) => {
                    tracing::error!(%error, retry_in = ?*delay, "cannot start containerd")
                }
            }
        }
    }
}

fn create_directories(paths: &Paths) -> Result<(), ContainerdError> {
    for dir in [&paths.root, &paths.state, &paths.cni_conf_dir] {
        std::fs::create_dir_all(dir).map_err(|source| file_error("cannot create", dir, source))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), ContainerdError> {
    std::fs::write(path, text).map_err(|source| file_error("cannot write", path, source))
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> ContainerdError {
    ContainerdError::File {
        action,
        path: path.to_owned(),
        source,
    }
}
