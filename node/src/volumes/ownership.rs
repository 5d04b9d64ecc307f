//! Who may read a volume: permission bits and the pod's fsGroup.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Everyone may write, as in an emptyDir.
pub(super) fn open_to_all(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
}

/// Gives a tree to the group, as Kubernetes does for fsGroup: readable for it (writable too unless `read_only`), and what is created
/// below belongs to it as well.
pub(super) fn give_to_group(path: &Path, group: Option<i64>, read_only: bool) -> io::Result<()> {
    let Some(gid) = group.and_then(|g| u32::try_from(g).ok()) else {
        return Ok(());
    };
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return std::os::unix::fs::lchown(path, None, Some(gid));
    }
    std::os::unix::fs::chown(path, None, Some(gid))?;
    let read_or_write = if read_only { 0o440 } else { 0o660 };
    let added = if metadata.is_dir() {
        read_or_write | 0o2110
    } else {
        read_or_write
    };
    let mode = (metadata.permissions().mode() & 0o7777) | added;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give_to_group(&entry?.path(), group, read_only)?;
        }
    }
    Ok(())
}
