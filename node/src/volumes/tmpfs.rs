//! Memory filesystems for volumes that must not reach a disk, and unmounting of all that a pod mounted.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};

/// Mounts a tmpfs, of `limit` bytes if given, unless one is there already.
pub(super) fn mount(path: &Path, limit: Option<i64>) -> Result<(), String> {
    if mount_points(path)?.iter().any(|m| m == path) {
        return Ok(());
    }
    let options = limit.map(|bytes| format!("size={bytes}"));
    nix::mount::mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        options.as_deref(),
    )
    .map_err(|e| format!("mount tmpfs on {}: {e}", path.display()))
}

/// Unmounts everything at or below `path`, the innermost first.
pub(super) fn unmount_below(path: &Path) -> Result<(), String> {
    let mut points = mount_points(path)?;
    points.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    for point in points {
        nix::mount::umount2(&point, MntFlags::MNT_DETACH)
            .map_err(|e| format!("unmount {}: {e}", point.display()))?;
    }
    Ok(())
}

/// Mount points at or below `path`.
fn mount_points(path: &Path) -> Result<Vec<PathBuf>, String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
    let point = |line: &str| line.split(' ').nth(4).map(|p| PathBuf::from(unescape(p)));
    Ok(table
        .lines()
        .filter_map(point)
        .filter(|p| p.starts_with(path))
        .collect())
}

/// The kernel writes blanks in paths as octal escapes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}
