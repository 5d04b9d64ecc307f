//! containerd's log file: appended to by containerd itself, bounded by copying and truncating.
//!
//! containerd holds the file open, so that its output survives a death of this process; a pipe would not.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A log larger than this many bytes is moved aside.
const MAX_BYTES: u64 = 10 * 1024 * 1024;
/// How much of the log's end is searched for the last error.
const TAIL_BYTES: u64 = 16 * 1024;

/// Opens the log for appending, which makes truncating it safe while containerd writes.
pub(super) fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Copies a log that has grown too large to `NAME.1` and empties it.
pub(super) fn rotate(path: &Path) -> std::io::Result<()> {
    rotate_above(path, MAX_BYTES)
}

fn rotate_above(path: &Path, max_bytes: u64) -> std::io::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > max_bytes => {
            let mut old = path.as_os_str().to_owned();
            old.push(".1");
            std::fs::copy(path, PathBuf::from(old))?;
            OpenOptions::new().write(true).open(path)?.set_len(0)
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The last line that speaks of an error, for messages to the user.
pub(super) fn last_error(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let is_error = |line: &&str| {
        line.contains("level=error")
            || line.contains("level=fatal")
            || line.starts_with("containerd: ")
    };
    text.lines().rev().find(is_error).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_log_is_moved_aside_and_errors_are_found() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("containerd.log");
        rotate_above(&path, 10).expect("a missing log is fine");
        std::fs::write(&path, "level=info a\nlevel=error msg=bad\nlevel=info b\n").expect("write");
        assert_eq!(last_error(&path).as_deref(), Some("level=error msg=bad"));
        rotate_above(&path, 10).expect("rotate");
        assert_eq!(std::fs::metadata(&path).expect("log").len(), 0);
        assert!(dir.path().join("containerd.log.1").exists());
    }
}
