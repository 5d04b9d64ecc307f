//! Containers' logs in CRI's format: one line of a stream, its time and a tag for lines that go on.
//!
//! It must not know who reads. Parsing is pure.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Where log collectors look: one link for each container, named after pod and container.
const LINKS: &str = "/var/log/containers";

fn link_path(namespace: &str, pod: &str, container: &str, id: &str) -> PathBuf {
    Path::new(LINKS).join(format!("{pod}_{namespace}_{container}-{id}.log"))
}

/// Links a container's log to where log collectors look.
pub(crate) fn link(
    namespace: &str,
    pod: &str,
    container: &str,
    id: &str,
    log: &Path,
) -> std::io::Result<()> {
    std::fs::create_dir_all(LINKS)?;
    std::os::unix::fs::symlink(log, link_path(namespace, pod, container, id))
}

/// Removes the log of a container that was removed, what was set aside of it, and the link to it.
pub(crate) fn remove(namespace: &str, pod: &str, container: &str, id: &str, log: &Path) {
    let _ = std::fs::remove_file(link_path(namespace, pod, container, id));
    let _ = std::fs::remove_file(log);
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else {
        return;
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)) {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// One entry of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// RFC 3339 with nanoseconds, as written by the runtime.
    pub(crate) time: &'a str,
    pub(crate) stream: &'a str,
    /// The line goes on in the next entry of the stream.
    pub(crate) partial: bool,
    /// Without its end of line.
    pub(crate) text: &'a [u8],
}

/// Reads `2024-01-01T00:00:00.000000000Z stdout F text`, without its end of line.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = parts.next()?;
    let text = parts.next().unwrap_or_default();
    let known = matches!(stream, "stdout" | "stderr") && time.len() >= 20;
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    known.then_some(Entry {
        time,
        stream,
        partial,
        text,
    })
}

/// The text of the last lines of a log, limited in lines and bytes.
pub(crate) fn tail_text(path: &Path, lines: usize, limit: usize) -> String {
    let data = read_end(path, (limit * 2 + lines * 64) as u64).unwrap_or_default();
    let mut out: Vec<u8> = Vec::new();
    let whole: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
    let entries: Vec<Entry<'_>> = whole.iter().filter_map(|l| parse(l)).collect();
    for entry in entries.iter().skip(entries.len().saturating_sub(lines)) {
        out.extend_from_slice(entry.text);
        if !entry.partial {
            out.push(b'\n');
        }
    }
    let cut = out.len().saturating_sub(limit);
    String::from_utf8_lossy(&out[cut..]).into_owned()
}

fn read_end(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut data = Vec::new();
    file.read_to_end(&mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let entry = parse(b"2024-01-01T00:00:00.000000000Z stderr P a b").expect("an entry");
        assert_eq!(
            (entry.stream, entry.partial, entry.text),
            ("stderr", true, b"a b".as_slice())
        );
        assert_eq!(
            parse(b"2024-01-01T00:00:00.000000000Z stdout F").map(|e| e.text),
            Some(b"".as_slice())
        );
        assert_eq!(parse(b"garbage"), None);
    }

    #[test]
    fn the_end_of_a_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        let line =
            |tag: &str, text: &str| format!("2024-01-01T00:00:00.000000000Z stdout {tag} {text}\n");
        std::fs::write(
            &path,
            [
                line("F", "one"),
                line("P", "tw"),
                line("F", "o"),
                line("F", "three"),
            ]
            .concat(),
        )
        .expect("written");
        assert_eq!(tail_text(&path, 3, 100), "two\nthree\n");
        assert_eq!(tail_text(&path, 80, 6), "three\n");
    }
}
