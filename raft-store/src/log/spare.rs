//! The next segment is made ready before it is needed, on a thread of its own: every block of it is written once. The
//! first sync of a block that was only set aside makes the file system write, too, and takes twice as long.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::segment::{Directory, preallocate};
use crate::{limits, threads};

/// Makes spare segments, one at a time.
pub struct SpareMaker {
    directory: Directory,
    stopping: Arc<AtomicBool>,
    making: Option<JoinHandle<()>>,
}

impl SpareMaker {
    pub fn new(directory: Directory) -> Self {
        Self {
            directory,
            stopping: Arc::default(),
            making: None,
        }
    }

    /// Begins to make one, unless there is one or one is being made. Returns at once.
    pub fn wake(&mut self) {
        let busy = self.making.as_ref().is_some_and(|it| !it.is_finished());
        // Without one, segments are shorter: that is all.
        if busy || threads::simulated() || self.directory.has_spare().unwrap_or(true) {
            return;
        }
        let (directory, stopping) = (self.directory.clone(), self.stopping.clone());
        let thread = std::thread::Builder::new().name("log-spare".to_owned());
        let making = thread.spawn(move || {
            if let Err(error) = directory.make_spare(&stopping) {
                tracing::debug!(%error, "the log's next segment could not be made ready");
            }
        });
        self.making = making.ok();
    }
}

impl Drop for SpareMaker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(making) = self.making.take() {
            let _ = making.join();
        }
    }
}

impl Directory {
    fn make_spare(&self, stopping: &AtomicBool) -> io::Result<()> {
        let path = self.path_in_making();
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        let made = fill(&file, self.segment_bytes(), stopping);
        match made {
            Ok(true) => self.adopt_spare(),
            stopped_or_failed => {
                fs::remove_file(&path)?;
                stopped_or_failed.map(drop)
            }
        }
    }
}

/// Writes zeros to all of a new file, little by little; whether it came to the end.
pub fn fill(file: &File, len: u64, stopping: &AtomicBool) -> io::Result<bool> {
    preallocate(file, len)?;
    let zeros = vec![0; limits::LOG_FILL_BYTES];
    let mut at = 0;
    while at < len {
        if stopping.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let step = zeros.len().min((len - at) as usize);
        file.write_all_at(&zeros[..step], at)?;
        // The log's own syncs wait for no more than this.
        file.sync_data()?;
        at += step as u64;
    }
    forget_pages(file);
    Ok(true)
}

/// The log is written past the page cache: what it holds of the file is of no use.
fn forget_pages(file: &File) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    // A hint, and no more.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}
