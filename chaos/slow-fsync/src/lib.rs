//! A slow disk for one process: loaded by `LD_PRELOAD`, it delays `fsync`, `fdatasync` and `sync_file_range`.
//!
//! The delay, in milliseconds as text, is read for every call from the file that `SLOW_FSYNC_FILE` names, so that it can
//! change while the process runs. Without the variable or the file nothing is delayed. Must not know whom it slows down.
#![allow(unsafe_code)]
// Holding up the calling thread is what it is for.
#![allow(clippy::disallowed_methods)]

use std::os::raw::{c_int, c_uint};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// What a test may ask for at most.
const MAX_DELAY: Duration = Duration::from_secs(60);

fn delay() {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("SLOW_FSYNC_FILE").map(PathBuf::from));
    let text = file
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok());
    let millis = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if millis > 0 {
        std::thread::sleep(Duration::from_millis(millis).min(MAX_DELAY));
    }
}

fn result(returned: libc::c_long) -> c_int {
    // -1 with errno set, or 0: it fits.
    returned as c_int
}

/// Stands before the C library's.
///
/// # Safety
/// As the system call: any descriptor may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    delay();
    // SAFETY: the kernel checks the descriptor; no memory is handed over.
    result(unsafe { libc::syscall(libc::SYS_fsync, fd) })
}

/// Stands before the C library's.
///
/// # Safety
/// As the system call: any descriptor may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    delay();
    // SAFETY: the kernel checks the descriptor; no memory is handed over.
    result(unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
}

/// Stands before the C library's.
///
/// # Safety
/// As the system call: any descriptor and range may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(
    fd: c_int,
    offset: i64,
    bytes: i64,
    flags: c_uint,
) -> c_int {
    delay();
    // SAFETY: the kernel checks descriptor and range; no memory is handed over.
    result(unsafe { libc::syscall(libc::SYS_sync_file_range, fd, offset, bytes, flags) })
}
