//! subPath mounts: a part of a volume, bound to a place of its own so that no symbolic link made in the volume by a container can
//! lead out of it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, fstat};

/// Binds `volume/subpath` to `target` and gives the target back; a missing directory is created. The kernel resolves the path and
/// refuses whatever would leave the volume.
pub(crate) fn bind(volume: &Path, subpath: &str, target: &Path) -> Result<PathBuf, String> {
    let failed = |e: &dyn std::fmt::Display| {
        format!("failed to prepare subPath for volumeMount \"{subpath}\": {e}")
    };
    if volume.is_file() {
        return Err(failed(&"the volume is a file"));
    }
    let root = open(
        volume,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| failed(&e))?;
    let part = resolve(&root, volume, subpath).map_err(|e| failed(&e))?;
    let is_directory =
        fstat(&part).map_err(|e| failed(&e))?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(|e| failed(&e))?;
    }
    if is_directory {
        std::fs::create_dir_all(target).map_err(|e| failed(&e))?;
    } else {
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(target)
            .map_err(|e| failed(&e))?;
    }
    // What an earlier run of the container had here is dead.
    let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
    let source = format!("/proc/self/fd/{}", part.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    nix::mount::mount(
        Some(source.as_str()),
        target,
        None::<&str>,
        flags,
        None::<&str>,
    )
    .map_err(|e| failed(&e))?;
    Ok(target.to_path_buf())
}

fn resolve(root: &OwnedFd, volume: &Path, subpath: &str) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(root, subpath, how) {
        Err(nix::Error::ENOENT) => {
            create(root, volume, subpath)?;
            openat2(root, subpath, how)
        }
        other => other,
    }
}

/// Creates the missing directories one by one, each below one that was resolved safely.
fn create(root: &OwnedFd, volume: &Path, subpath: &str) -> nix::Result<()> {
    let mode = std::fs::metadata(volume)
        .map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()))
        .unwrap_or(0o750);
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut below = root.try_clone().map_err(|_| nix::Error::EMFILE)?;
    for part in subpath.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if part == ".." {
            return Err(nix::Error::EINVAL);
        }
        match nix::sys::stat::mkdirat(&below, part, Mode::from_bits_truncate(mode & 0o7777)) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(e) => return Err(e),
        }
        below = openat2(&below, part, how)?;
    }
    Ok(())
}
