//! hostPath volumes: a file or directory of the node, checked against the type that the pod expects.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// The path, if it is of the expected type; created where the type says so.
pub(super) fn check(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let failed = |what: &str| {
        Err(format!(
            "hostPath type check failed: {} is not a {what}",
            path.display()
        ))
    };
    match kind {
        "DirectoryOrCreate" if !path.exists() => create_directory(path)?,
        "FileOrCreate" if !path.exists() => create_file(path)?,
        _ => {}
    }
    let found = std::fs::metadata(path).map(|m| m.file_type());
    let is = |test: fn(&std::fs::FileType) -> bool| found.as_ref().is_ok_and(test);
    match kind {
        "Directory" | "DirectoryOrCreate" if !is(|t| t.is_dir()) => failed("directory"),
        "File" | "FileOrCreate" if !is(|t| t.is_file()) => failed("file"),
        "Socket" if !is(|t| t.is_socket()) => failed("socket file"),
        "CharDevice" if !is(|t| t.is_char_device()) => failed("character device"),
        "BlockDevice" if !is(|t| t.is_block_device()) => failed("block device"),
        _ => Ok(path.to_path_buf()),
    }
}

fn create_directory(path: &Path) -> Result<(), String> {
    std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)))
        .map_err(|e| e.to_string())
}

fn create_file(path: &Path) -> Result<(), String> {
    std::fs::File::create(path)
        .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o644)))
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |name: &str, kind: &str| {
            let path = dir.path().join(name).display().to_string();
            check(&HostPathVolumeSource {
                path,
                type_: Some(kind.into()),
            })
            .is_ok()
        };
        assert!(!check("d", "Directory"));
        assert!(check("d", "DirectoryOrCreate"));
        assert!(check("d", "Directory"));
        assert!(!check("d", "File"));
        assert!(check("f", "FileOrCreate"));
        assert!(!check("f", "Socket"));
        assert!(check("none", ""));
    }
}
