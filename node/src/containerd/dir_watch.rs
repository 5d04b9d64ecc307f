//! Waits for changes in one directory, by inotify.
//!
//! It must not know what the files are for.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Room for several events; each needs at most 16 bytes and a file name.
const BUFFER_BYTES: usize = 4096;

/// What has changed since the last look.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The names of the files concerned.
    pub(crate) names: Vec<String>,
    /// Whether the kernel dropped events: anything may have changed.
    pub(crate) overflow: bool,
}

/// A watched directory.
#[derive(Debug)]
pub(crate) struct DirWatch {
    fd: AsyncFd<OwnedFd>,
}

impl DirWatch {
    pub(crate) fn new(dir: &Path, events: WatchFlags) -> std::io::Result<DirWatch> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, dir, events)?;
        Ok(DirWatch { fd: async_fd(fd)? })
    }

    /// Waits for the next changes.
    pub(crate) async fn changes(&self) -> std::io::Result<Changes> {
        let mut ready = self.fd.readable().await?;
        let mut changes = Changes::default();
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(self.fd.get_ref(), &mut buffer);
        // The first read that finds nothing ends the loop: only then is the descriptor no longer ready.
        while let Ok(event) = reader.next() {
            changes.overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            changes.names.extend(
                event
                    .file_name()
                    .and_then(|name| name.to_str().ok())
                    .map(str::to_owned),
            );
        }
        ready.clear_ready();
        Ok(changes)
    }
}

/// Makes a descriptor awaitable.
#[expect(
    deprecated,
    reason = "its successor is unsafe; an owned descriptor stays open, which is all that it asks for"
)]
pub(super) fn async_fd(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
