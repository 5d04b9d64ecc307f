//! Files that change all at once: a new directory is filled, then one symbolic link is renamed, as Kubernetes' containers expect
//! (`..data`). A reader sees the old files or the new ones, never a mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use super::ownership;

/// The link that is renamed.
const DATA: &str = "..data";
/// Its name before it is renamed.
const DATA_NEW: &str = "..data_tmp";

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner, if it shall not be root.
    pub(crate) uid: Option<i64>,
}

/// Files by their path below the volume.
pub(crate) type Files = BTreeMap<String, File>;

/// Makes the volume hold exactly `files`. Does nothing if it does already.
pub(crate) fn write(target: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    let data = target.join(DATA);
    let old = std::fs::read_link(&data).ok();
    if old.is_some() && same(&data, files, group) && links_exist(target, files) {
        return Ok(());
    }
    let fresh = new_directory(target)?;
    fill(&target.join(&fresh), files, group)?;
    let pending = target.join(DATA_NEW);
    let _ = std::fs::remove_file(&pending);
    symlink(&fresh, &pending)?;
    std::fs::rename(&pending, &data)?;
    link(target, files)?;
    if let Some(old) = old.filter(|old| *old != Path::new(&fresh)) {
        std::fs::remove_dir_all(target.join(old))?;
    }
    Ok(())
}

fn new_directory(target: &Path) -> io::Result<String> {
    let stamp = k8s_openapi::jiff::Timestamp::now()
        .strftime("..%Y_%m_%d_%H_%M_%S.%N")
        .to_string();
    let path = target.join(&stamp);
    std::fs::create_dir(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(stamp)
}

fn fill(directory: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    for (name, file) in files {
        let path = directory.join(checked(name)?);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, &file.data)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode))?;
        if let Some(uid) = file.uid.and_then(|u| u32::try_from(u).ok()) {
            std::os::unix::fs::chown(&path, Some(uid), None)?;
        }
    }
    ownership::give_to_group(directory, group, true)
}

/// A path that stays in the volume and hides no name of ours.
fn checked(name: &str) -> io::Result<&Path> {
    let path = Path::new(name);
    let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
    if inside && !name.is_empty() && !name.starts_with("..") {
        return Ok(path);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("invalid path: {name}"),
    ))
}

/// The first parts of all paths: what the volume's directory shows.
fn visible(files: &Files) -> BTreeSet<&str> {
    files
        .keys()
        .filter_map(|name| name.split('/').next())
        .collect()
}

fn links_exist(target: &Path, files: &Files) -> bool {
    visible(files)
        .iter()
        .all(|name| target.join(name).symlink_metadata().is_ok())
}

fn link(target: &Path, files: &Files) -> io::Result<()> {
    let wanted = visible(files);
    for name in &wanted {
        let path = target.join(name);
        if path.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), path)?;
        }
    }
    for entry in std::fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(name.as_str()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn same(directory: &Path, files: &Files, group: Option<i64>) -> bool {
    let equal = |(name, file): (&String, &File)| {
        let path = directory.join(name);
        let added = if group.is_some() { 0o440 } else { 0 };
        let mode = std::fs::metadata(&path)
            .map(|m| m.permissions().mode() & 0o777)
            .ok();
        mode == Some((file.mode | added) & 0o777)
            && std::fs::read(&path).is_ok_and(|data| data == file.data)
    };
    count(directory) == files.len() && files.iter().all(equal)
}

fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|e| {
            if e.path().is_dir() {
                count(&e.path())
            } else {
                1
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |data: &str| File {
            data: data.into(),
            mode: 0o644,
            uid: None,
        };
        list.iter()
            .map(|(name, data)| (name.to_string(), file(data)))
            .collect()
    }

    #[test]
    fn content_follows_and_nothing_is_left_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        write(dir.path(), &files(&[("a", "1"), ("d/b", "2")]), None).expect("written");
        assert_eq!(
            (read("a").as_deref(), read("d/b").as_deref()),
            (Some("1"), Some("2"))
        );
        let first = std::fs::read_link(dir.path().join(DATA)).expect("a link");
        write(dir.path(), &files(&[("a", "1"), ("d/b", "2")]), None).expect("written");
        assert_eq!(
            std::fs::read_link(dir.path().join(DATA)).expect("a link"),
            first,
            "unchanged"
        );
        write(dir.path(), &files(&[("a", "3")]), None).expect("written");
        assert_eq!((read("a").as_deref(), read("d/b")), (Some("3"), None));
        let names = std::fs::read_dir(dir.path()).expect("a directory").count();
        assert_eq!(names, 3, "a, ..data and its target");
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().expect("a directory");
        for bad in ["../x", "/etc/x", "..data", ""] {
            assert!(
                write(dir.path(), &files(&[(bad, "")]), None).is_err(),
                "{bad}"
            );
        }
    }
}
