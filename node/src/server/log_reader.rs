//! Streams a container's log file: from where was asked, following the file through rotation until the container ends.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use k8s_cri::v1::ContainerState;
use k8s_openapi::jiff;
use rustix::fs::inotify::WatchFlags;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::containerd::DirWatch;
use crate::cri::Cri;
use crate::dispatch::Pods;
use crate::logs::{Entry, parse};

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;
/// The longest line that is looked at; the runtime cuts lines far below.
const MAX_LINE: usize = 1 << 20;
/// Chunks that wait for a slow reader.
const QUEUE: usize = 4;

/// What of a log is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) follow: bool,
    pub(super) timestamps: bool,
    pub(super) tail_lines: Option<u64>,
    pub(super) since: Option<Timestamp>,
    pub(super) limit_bytes: Option<u64>,
    /// `stdout` or `stderr` alone.
    pub(super) stream: Option<String>,
}

/// The log as it shall be sent. Ends early if nobody reads.
pub(super) fn stream(
    path: PathBuf,
    options: Options,
    pods: Arc<Pods>,
    cri: Cri,
    id: String,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let reader = Reader {
            path,
            format: Format::new(options),
            pending: Vec::new(),
            sender: sender.clone(),
        };
        let gone = sender.clone();
        tokio::select! {
            result = reader.run(&pods, &cri, &id) => {
                if let Err(error) = result {
                    let _ = sender.send(Err(error)).await;
                }
            }
            () = gone.closed() => {}
        }
    });
    ReceiverStream::new(receiver)
}

struct Reader {
    path: PathBuf,
    format: Format,
    /// The beginning of a line whose end is not written yet.
    pending: Vec<u8>,
    sender: mpsc::Sender<std::io::Result<Bytes>>,
}

impl Reader {
    async fn run(mut self, pods: &Pods, cri: &Cri, id: &str) -> std::io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        // Watched before the first read, so that no line comes in between.
        let watch = if self.format.options.follow {
            Some(DirWatch::new(&directory, flags)?)
        } else {
            None
        };
        let mut runtime_news = pods.runtime_news();
        let mut file = File::open(&self.path).await?;
        let start = self.start(&mut file).await?;
        file.seek(SeekFrom::Start(start)).await?;
        let mut ask = true;
        loop {
            let more = self.drain(&mut file).await?;
            let Some(watch) = watch.as_ref().filter(|_| more) else {
                return Ok(());
            };
            if let Some(next) = self.rotated(&mut file).await? {
                file = next;
                continue;
            }
            if ask {
                runtime_news.mark_unchanged();
                if !is_running(cri, id).await {
                    self.drain(&mut file).await?;
                    return Ok(());
                }
            }
            ask = tokio::select! {
                changes = watch.changes() => changes.map(|_| false)?,
                _ = runtime_news.changed() => true,
            };
        }
    }

    /// Where to begin: at the last lines asked for, or at the beginning.
    async fn start(&self, file: &mut File) -> std::io::Result<u64> {
        let length = file.metadata().await?.len();
        match self.format.options.tail_lines {
            None => Ok(0),
            Some(lines) => tail_offset(file, length, lines).await,
        }
    }

    /// Sends what there is; false if no more is wanted.
    async fn drain(&mut self, file: &mut File) -> std::io::Result<bool> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = file.read(&mut chunk).await?;
            if count == 0 {
                return Ok(true);
            }
            self.pending.extend_from_slice(&chunk[..count]);
            let Some(end) = self.pending.iter().rposition(|b| *b == b'\n') else {
                if self.pending.len() > MAX_LINE {
                    self.pending.clear();
                }
                continue;
            };
            let rest = self.pending.split_off(end + 1);
            let lines = std::mem::replace(&mut self.pending, rest);
            let (out, more) = self.format.format(&lines);
            if !out.is_empty() && self.sender.send(Ok(Bytes::from(out))).await.is_err() {
                return Ok(false);
            }
            if !more {
                return Ok(false);
            }
        }
    }

    /// The new file, if the path leads to another one than before and that is read to its end.
    async fn rotated(&mut self, file: &mut File) -> std::io::Result<Option<File>> {
        use std::os::unix::fs::MetadataExt;
        let Ok(at_path) = tokio::fs::metadata(&self.path).await else {
            return Ok(None);
        };
        if at_path.ino() == file.metadata().await?.ino() {
            return Ok(None);
        }
        self.drain(file).await?;
        self.pending.clear();
        File::open(&self.path).await.map(Some)
    }
}

async fn is_running(cri: &Cri, id: &str) -> bool {
    match cri.container_status(id).await {
        Ok(Some(status)) => status.state() == ContainerState::ContainerRunning,
        Ok(None) => false,
        // A runtime that restarts says nothing about the container.
        Err(_) => true,
    }
}

/// The offset of the last `lines` lines.
async fn tail_offset(file: &mut File, length: u64, lines: u64) -> std::io::Result<u64> {
    if lines == 0 {
        return Ok(length);
    }
    let mut found = 0;
    let mut end = length;
    let mut chunk = vec![0; CHUNK];
    while end > 0 {
        let size = end.min(CHUNK as u64) as usize;
        let start = end - size as u64;
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut chunk[..size]).await?;
        for index in (0..size).rev() {
            let offset = start + index as u64;
            if chunk[index] == b'\n' && offset + 1 < length {
                found += 1;
                if found == lines {
                    return Ok(offset + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// Turns the file's lines into what is sent. Pure.
struct Format {
    options: Options,
    left: Option<u64>,
    /// The stream is in the middle of a line: its next entry carries no time.
    continued: bool,
}

impl Format {
    fn new(options: Options) -> Format {
        Format {
            left: options.limit_bytes,
            options,
            continued: false,
        }
    }

    /// The output for whole lines, and whether more is wanted.
    fn format(&mut self, lines: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let Some(entry) = parse(line).filter(|e| self.wanted(e)) else {
                continue;
            };
            if self.options.timestamps && !self.continued {
                out.extend_from_slice(entry.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(entry.text);
            if !entry.partial {
                out.push(b'\n');
            }
            self.continued = entry.partial;
        }
        let Some(left) = &mut self.left else {
            return (out, true);
        };
        out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= out.len() as u64;
        let more = *left > 0;
        (out, more)
    }

    fn wanted(&self, entry: &Entry<'_>) -> bool {
        let stream = self
            .options
            .stream
            .as_deref()
            .is_none_or(|s| s == entry.stream);
        let since = self.options.since;
        stream
            && since.is_none_or(|since| {
                entry
                    .time
                    .parse::<Timestamp>()
                    .is_ok_and(|time| time >= since)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"2024-01-01T00:00:00.000000000Z stdout F one\n2024-01-01T00:00:01.000000000Z stderr P tw\n\
        2024-01-01T00:00:01.000000000Z stderr F o\n2024-01-01T00:00:02.000000000Z stdout F three\n";

    #[track_caller]
    fn check(options: Options, expect: &str) {
        assert_eq!(
            String::from_utf8_lossy(&Format::new(options).format(LOG).0),
            expect
        );
    }

    #[test]
    fn formats() {
        check(Options::default(), "one\ntwo\nthree\n");
        check(
            Options {
                stream: Some("stderr".into()),
                ..Default::default()
            },
            "two\n",
        );
        check(
            Options {
                limit_bytes: Some(5),
                ..Default::default()
            },
            "one\nt",
        );
        let since = "2024-01-01T00:00:02Z".parse().ok();
        check(
            Options {
                since,
                timestamps: true,
                ..Default::default()
            },
            "2024-01-01T00:00:02.000000000Z three\n",
        );
    }

    #[tokio::test]
    async fn tails() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, b"a\nbb\nccc\n").expect("written");
        let mut file = File::open(&path).await.expect("opened");
        for (lines, expect) in [(0, 9), (1, 5), (2, 2), (3, 0), (9, 0)] {
            assert_eq!(
                tail_offset(&mut file, 9, lines).await.expect("an offset"),
                expect,
                "{lines}"
            );
        }
    }
}
