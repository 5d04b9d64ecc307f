//! The API servers that the cluster named last, kept on disk: an agent that starts while the one of its flag is down asks these.
//!
//! One URL in a line. It is a help and no more: what cannot be read or written is as if nothing had been known.

use std::path::Path;

/// None if nothing is kept.
pub(crate) fn read(path: &Path) -> Vec<String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the cluster's other API servers are not known");
            String::new()
        }
    };
    text.lines().map(str::to_owned).collect()
}

/// Replaces the file.
pub(crate) fn write(path: &Path, servers: &[String]) {
    let next = path.with_extension("next");
    let written = std::fs::write(&next, servers.join("\n") + "\n");
    if let Err(error) = written.and_then(|()| std::fs::rename(&next, path)) {
        tracing::warn!(path = %path.display(), %error, "the cluster's API servers are not kept for the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("servers");
        assert!(read(&path).is_empty());
        let servers = ["https://10.0.0.1:6443", "https://[fd00::1]:6444"].map(str::to_owned);
        write(&path, &servers);
        assert_eq!(read(&path), servers);
        write(&path, &servers[1..]);
        assert_eq!(read(&path), servers[1..]);
    }
}
