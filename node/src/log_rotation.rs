//! Keeps containers' logs from filling the disk: a log that is too long is set aside, the runtime opens a new one, old ones are deleted.
//!
//! CRI leaves this to the agent. Sizes are looked at in the kubelet's rhythm; a watch on every log would cost more than it saves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_cri::v1::{Container, ContainerState};
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cri::Cri;
use crate::{container_config, labels, sandbox_config};

/// How often sizes are looked at, as the kubelet's `containerLogMonitorInterval`.
const PERIOD: Duration = Duration::from_secs(10);
/// A longer log is set aside, in bytes, as the kubelet's `containerLogMaxSize`.
const MAX_SIZE: u64 = 10 << 20;
/// Logs of one container, the present one included, as the kubelet's `containerLogMaxFiles`.
const MAX_FILES: usize = 5;

/// Rotates until `stop`.
pub(crate) async fn run(cri: Cri, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => return,
        }
        let containers = match cri.list_containers(&[]).await {
            Ok(containers) => containers,
            Err(_) => continue,
        };
        let running = containers
            .iter()
            .filter(|c| c.state() == ContainerState::ContainerRunning);
        for (container, path) in running.filter_map(|c| log_path(c).map(|p| (c, p))) {
            let length = tokio::fs::metadata(&path).await.map_or(0, |m| m.len());
            if length <= MAX_SIZE {
                continue;
            }
            if let Err(error) = rotate(&cri, &container.id, &path).await {
                tracing::warn!(error, path = %path.display(), "cannot rotate a log");
            }
        }
    }
}

/// Where the container's log is, as its labels tell.
fn log_path(container: &Container) -> Option<PathBuf> {
    let get = |map: &HashMap<String, String>, key: &str| map.get(key).cloned();
    let label = |key: &str| get(&container.labels, key);
    let directory = sandbox_config::log_directory(
        &label(labels::POD_NAMESPACE)?,
        &label(labels::POD_NAME)?,
        &label(labels::POD_UID)?,
    );
    let count: u32 = get(&container.annotations, labels::RESTART_COUNT)?
        .parse()
        .ok()?;
    let file = container_config::log_path(&label(labels::CONTAINER_NAME)?, count);
    Some(Path::new(&directory).join(file))
}

async fn rotate(cri: &Cri, id: &str, path: &Path) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let aside = PathBuf::from(format!("{}.{stamp}", path.display()));
    tokio::fs::rename(path, &aside).await.map_err(text)?;
    if let Err(status) = cri.reopen_log(id).await {
        // The runtime still writes to the old file: it must be found under its name.
        tokio::fs::rename(&aside, path).await.map_err(text)?;
        return Err(status.message().to_string());
    }
    for old in surplus(path).map_err(text)? {
        tokio::fs::remove_file(old).await.map_err(text)?;
    }
    Ok(())
}

/// Logs set aside beyond those that are kept.
fn surplus(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(directory)?.flatten();
    let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    let mut found: Vec<PathBuf> = ours.map(|e| e.path()).collect();
    // The stamp in the name sorts by time.
    found.sort();
    let keep = MAX_FILES - 1;
    Ok(found[..found.len().saturating_sub(keep)].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        for stamp in 1..=6 {
            std::fs::write(dir.path().join(format!("0.log.2024010{stamp}-000000")), "")
                .expect("written");
        }
        std::fs::write(dir.path().join("10.log.20240101-000000"), "").expect("written");
        let names: Vec<String> = surplus(&path)
            .expect("listed")
            .iter()
            .filter_map(|p| p.extension().map(|e| e.to_string_lossy().into_owned()))
            .collect();
        assert_eq!(names, ["20240101-000000", "20240102-000000"]);
    }
}
