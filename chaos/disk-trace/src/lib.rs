//! What one process asks of its disk: loaded by `LD_PRELOAD`, it records each change below one folder, in order, and each
//! sync with its beginning and its end. From the record, states can be made in which the disk may be after a loss of power.
//!
//! `DISK_TRACE_FOLDER` names the folder, an absolute path that exists, and `DISK_TRACE_FILE` the record, which is
//! appended to. Without them nothing is recorded. Once there is a file of the record's name and `.end`, the process ends
//! as by a kill, but never between a change and its record. `record` has the format. What is not seen: shared mappings, C streams
//! (`fopen`), copies made by the kernel, descriptors that were duplicated or inherited. A reader must compare what
//! follows from the record with the folder. Must not know whose disk it is.
#![allow(unsafe_code)]

mod calls;
mod record;

use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_int};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use record::Record;

/// Descriptors from here on are not looked at.
const DESCRIPTORS: usize = 1 << 16;

/// The inode that each descriptor of the folder is of; 0 for all others.
static INODES: [AtomicU64; DESCRIPTORS] = [const { AtomicU64::new(0) }; DESCRIPTORS];

/// What is recorded, and where.
struct Trace {
    /// Without a slash at its end.
    folder: Vec<u8>,
    file: c_int,
    /// Ends the process when it is there.
    end: CString,
    /// Syncs that have begun.
    syncs: u64,
}

/// None if nothing is to be recorded. Whoever holds it makes the call that is recorded, so that records have its order.
fn trace() -> Option<MutexGuard<'static, Trace>> {
    static TRACE: OnceLock<Option<Mutex<Trace>>> = OnceLock::new();
    let trace = TRACE.get_or_init(Trace::begin).as_ref()?;
    let trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
    if calls::inode(libc::AT_FDCWD, &trace.end).is_some() {
        calls::end();
    }
    Some(trace)
}

impl Trace {
    fn begin() -> Option<Mutex<Self>> {
        let variable = |name: &CStr| {
            // SAFETY: the name ends with a zero; the value is copied before anything else runs.
            let value = unsafe { libc::getenv(name.as_ptr()) };
            // SAFETY: not null, and ends with a zero.
            (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_owned())
        };
        let folder = variable(c"DISK_TRACE_FOLDER")?;
        let file = variable(c"DISK_TRACE_FILE")?;
        let end = CString::new([file.to_bytes(), b".end"].concat()).ok()?;
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
        let file = calls::raw_open(libc::AT_FDCWD, &file, flags, 0o600);
        let root = calls::inode(libc::AT_FDCWD, &folder)?;
        if file < 0 {
            return None;
        }
        let trace = Self {
            folder: folder.into_bytes(),
            file,
            end,
            syncs: 0,
        };
        trace.write(&Record::Root { folder: root });
        Some(Mutex::new(trace))
    }

    /// A process that cannot be recorded must not go on: its record would lie.
    fn write(&self, record: &Record<'_>) {
        let bytes = record.encode();
        if !calls::raw_write(self.file, &bytes) {
            std::process::abort();
        }
    }

    /// The folder's inode and the name in it, if the path lies below what is recorded.
    fn place<'a>(&self, path: &'a CStr) -> Option<(u64, &'a [u8])> {
        let bytes = path.to_bytes();
        let below = bytes.strip_prefix(self.folder.as_slice())?;
        let below = below.strip_prefix(b"/")?;
        let name = below.rsplit(|byte| *byte == b'/').next()?;
        let parent = &bytes[..bytes.len() - name.len() - 1];
        let parent = CString::new(parent).ok()?;
        Some((calls::inode(libc::AT_FDCWD, &parent)?, name))
    }
}

/// The inode, if the descriptor is one of the folder's.
fn traced(fd: c_int) -> Option<u64> {
    let slot = INODES.get(usize::try_from(fd).ok()?)?;
    match slot.load(Ordering::Acquire) {
        0 => None,
        inode => Some(inode),
    }
}

fn set_traced(fd: c_int, inode: u64) {
    if let Some(slot) = usize::try_from(fd).ok().and_then(|fd| INODES.get(fd)) {
        slot.store(inode, Ordering::Release);
    }
}

/// A path of a caller.
///
/// # Safety
/// It ends with a zero, as for the system call, and outlives the use.
unsafe fn path<'a>(path: *const c_char) -> &'a CStr {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(path) }
}
