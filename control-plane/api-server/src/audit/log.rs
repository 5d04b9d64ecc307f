//! The log's file: one thread writes what comes through a bounded queue, and puts full files aside.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use super::{AuditConfig, AuditCounters, AuditError};

/// Lines that wait for the disk, as in upstream's batch mode.
const QUEUE_LIMIT: usize = 10_000;
/// Bytes that are written at once.
const BATCH_BYTES: usize = 1 << 20;
const MEGABYTE: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 3600);

enum Message {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// The queue's end for those who record. Cheap to clone.
#[derive(Clone)]
pub(super) struct Log {
    queue: mpsc::Sender<Message>,
    counters: AuditCounters,
}

impl Log {
    pub(super) fn start(config: &AuditConfig, counters: AuditCounters) -> Result<Self, AuditError> {
        let failed = |source| AuditError::Write {
            path: config.path.clone(),
            source,
        };
        let mut output = Output::open(config).map_err(failed)?;
        let (queue, lines) = mpsc::channel(QUEUE_LIMIT);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn({
                let errors = counters.errors.clone();
                move || write(lines, &mut output, &errors)
            })
            .map_err(failed)?;
        Ok(Self { queue, counters })
    }

    /// Takes a line with its line feed.
    pub(super) fn write(&self, line: Vec<u8>) {
        self.counters.events.inc();
        if self.queue.try_send(Message::Line(line)).is_err() && self.counters.errors.inc() == 0 {
            tracing::error!("the audit log is not written fast enough: events are lost");
        }
    }

    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

fn write(mut lines: mpsc::Receiver<Message>, output: &mut Output, errors: &Counter) {
    let mut batch = Vec::new();
    while let Some(message) = lines.blocking_recv() {
        let mut waiting = Vec::new();
        let mut next = Some(message);
        while let Some(message) = next {
            match message {
                Message::Line(line) => batch.extend_from_slice(&line),
                Message::Flush(done) => waiting.push(done),
            }
            next = match batch.len() < BATCH_BYTES {
                true => lines.try_recv().ok(),
                false => None,
            };
        }
        if let Err(error) = output.write(&batch) {
            errors.inc();
            tracing::error!(%error, "the audit log cannot be written: events are lost");
        }
        batch.clear();
        batch.shrink_to(BATCH_BYTES / 16);
        for done in waiting {
            let _ = done.send(());
        }
    }
}

enum Output {
    Standard,
    File(LogFile),
}

impl Output {
    fn open(config: &AuditConfig) -> io::Result<Self> {
        if config.path == Path::new("-") {
            return Ok(Self::Standard);
        }
        let (file, size) = open(&config.path)?;
        Ok(Self::File(LogFile {
            config: config.clone(),
            file,
            size,
        }))
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard => {
                let mut output = io::stdout().lock();
                output.write_all(lines)?;
                output.flush()
            }
            Self::File(file) => file.write(lines),
        }
    }
}

struct LogFile {
    config: AuditConfig,
    file: File,
    size: u64,
}

/// For its owner only: it tells what everybody does.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        let limit = self.config.max_size_megabytes.max(1) * MEGABYTE;
        if self.size > 0 && self.size + length > limit {
            self.put_aside()?;
        }
        self.file.write_all(lines)?;
        self.size += length;
        Ok(())
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let path = &self.config.path;
        fs::rename(path, backup_name(path, Timestamp::now()))?;
        (self.file, self.size) = open(path)?;
        self.forget_old()
    }

    fn forget_old(&self) -> io::Result<()> {
        let mut backups = backups(&self.config.path)?;
        backups.sort();
        let too_many = match self.config.max_backups {
            0 => 0,
            kept => backups.len().saturating_sub(kept),
        };
        let age = u32::try_from(self.config.max_age_days).unwrap_or(u32::MAX);
        for (at, backup) in backups.iter().enumerate() {
            let is_old = age > 0
                && fs::metadata(backup)?
                    .modified()?
                    .checked_add(DAY.saturating_mul(age))
                    .is_some_and(|end| end < SystemTime::now());
            if at < too_many || is_old {
                fs::remove_file(backup)?;
            }
        }
        Ok(())
    }
}

fn parts(path: &Path) -> (String, String) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = match path.extension() {
        Some(extension) => format!(".{}", text(Some(extension))),
        None => String::new(),
    };
    (format!("{}-", text(path.file_stem())), extension)
}

/// `audit-2026-01-02T03-04-05.678.log`, as upstream names them.
fn backup_name(path: &Path, now: Timestamp) -> PathBuf {
    let (stem, extension) = parts(path);
    let time = now.strftime("%Y-%m-%dT%H-%M-%S%.3f");
    path.with_file_name(format!("{stem}{time}{extension}"))
}

fn backups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = parts(path);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let is_backup = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let middle = name
            .strip_prefix(&stem)
            .and_then(|n| n.strip_suffix(&extension));
        middle.is_some_and(|time| time.starts_with(|c: char| c.is_ascii_digit()))
    };
    let paths = fs::read_dir(directory)?.map(|entry| entry.map(|e| e.path()));
    let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    Ok(paths.into_iter().filter(is_backup).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_put_aside_and_the_oldest_go() {
        let directory = tempfile::tempdir().expect("directory");
        let config = AuditConfig {
            policy_file: None,
            path: directory.path().join("audit.log"),
            max_size_megabytes: 1,
            max_age_days: 0,
            max_backups: 2,
        };
        for day in 1..=3 {
            let old = directory
                .path()
                .join(format!("audit-2020-01-0{day}T00-00-00.000.log"));
            fs::write(old, "old").expect("write");
        }
        fs::write(directory.path().join("audit-notes.log"), "mine").expect("write");
        let Output::File(mut file) = Output::open(&config).expect("opens") else {
            panic!("a file");
        };
        let line = vec![b'x'; 700 << 10];
        file.write(&line).expect("write");
        file.write(&line).expect("write");
        let mut names: Vec<String> = fs::read_dir(directory.path())
            .expect("list")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(names[0], "audit-2020-01-03T00-00-00.000.log");
        assert_eq!(
            (names[2].as_str(), names[3].as_str()),
            ("audit-notes.log", "audit.log")
        );
        let size = fs::metadata(&config.path).expect("there").len();
        assert_eq!(size, line.len() as u64);
    }

    #[test]
    fn old_files_have_upstreams_names() {
        let time: Timestamp = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        assert_eq!(
            backup_name(Path::new("/a/audit.log"), time),
            Path::new("/a/audit-2026-01-02T03-04-05.678.log")
        );
    }
}
