//! The log's files: named by number, written with zeros before they are used, reused once purged.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::record::HEADER;
use super::spare::fill;
use crate::limits;

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    pub number: u64,
    pub file: File,
    /// Its length, bytes: all of it is there from the start.
    pub capacity: u64,
}

/// The directory that holds the segments.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    /// Of an ordinary segment; one that must hold a larger record is larger.
    segment_bytes: u64,
}

const SUFFIX: &str = ".log";
const SPARE: &str = ".spare";
const NEXT_SPARE: &str = "next.spare";
const IN_MAKING: &str = "next.making";

impl Directory {
    /// Opens the directory, created if missing.
    pub fn open(path: PathBuf, segment_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let directory = Self {
            path,
            segment_bytes,
        };
        match fs::remove_file(directory.path_in_making()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(directory),
        }
    }

    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Where the next spare is made.
    pub fn path_in_making(&self) -> PathBuf {
        self.path.join(IN_MAKING)
    }

    /// The spare that was made is ready.
    pub fn adopt_spare(&self) -> io::Result<()> {
        fs::rename(self.path_in_making(), self.path.join(NEXT_SPARE))
    }

    pub fn has_spare(&self) -> io::Result<bool> {
        Ok(!self.spares()?.is_empty())
    }

    /// The segments' numbers, ascending.
    pub fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for name in self.names()? {
            if let Some(number) = name.strip_suffix(SUFFIX) {
                let number = u64::from_str_radix(number, 16);
                numbers.push(
                    number.map_err(|_| {
                        io::Error::other(format!("unexpected file {name} in the log"))
                    })?,
                );
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    pub fn path_of(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:016x}{SUFFIX}"))
    }

    pub fn open_segment(&self, number: u64) -> io::Result<Segment> {
        let path = self.path_of(number);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let capacity = file.metadata()?.len();
        Ok(Segment {
            number,
            file,
            capacity,
        })
    }

    /// Makes durable what the segment holds, and its name.
    pub fn sync_segment(&self, number: u64) -> io::Result<()> {
        File::open(self.path_of(number))?.sync_all()?;
        self.sync()
    }

    /// Makes segment `number` with room for at least `bytes`: of a spare file, or a short one, so that it is ready soon.
    pub fn create(&self, number: u64, bytes: u64) -> io::Result<Segment> {
        let path = self.path_of(number);
        if let Some(spare) = self.spares()?.first() {
            fs::rename(spare, &path)?;
            // Else what is written into it may stand, after a loss of power, in the segment that it was before.
            self.sync()?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let capacity = file.metadata()?.len();
        let short = self.segment_bytes.min(limits::LOG_SHORT_SEGMENT_BYTES);
        let wanted = capacity.max(bytes).max(short);
        if capacity < wanted {
            fill(&file, wanted, &AtomicBool::new(false))?;
        }
        // Nothing may stand where the first record goes until that is written.
        file.write_all_at(&[0; HEADER], 0)?;
        file.sync_all()?;
        self.sync()?;
        Ok(Segment {
            number,
            file,
            capacity: wanted,
        })
    }

    fn spares(&self) -> io::Result<Vec<PathBuf>> {
        let names = self.names()?;
        Ok(names
            .iter()
            .filter(|name| name.ends_with(SPARE))
            .map(|name| self.path.join(name))
            .collect())
    }

    /// Gives up a purged segment: kept as a spare of ordinary size, or deleted.
    pub fn retire(&self, number: u64) -> io::Result<()> {
        let path = self.path_of(number);
        let ordinary = fs::metadata(&path)?.len() == self.segment_bytes;
        if ordinary && self.spares()?.len() < limits::LOG_SPARE_SEGMENTS {
            fs::rename(&path, self.path.join(format!("{number:016x}{SPARE}")))
        } else {
            fs::remove_file(&path)
        }
    }

    /// Makes created, renamed and removed names durable.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Gives a file blocks for `bytes`.
pub fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    use nix::fcntl::{FallocateFlags, fallocate};
    let len = i64::try_from(bytes).map_err(io::Error::other)?;
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        // A file system without fallocate: a sparse file will do.
        Err(nix::errno::Errno::EOPNOTSUPP) => file.set_len(bytes),
        Err(errno) => Err(errno.into()),
    }
}

/// The whole of a file.
pub fn read_all(path: &Path) -> io::Result<Bytes> {
    fs::read(path).map(Bytes::from)
}
