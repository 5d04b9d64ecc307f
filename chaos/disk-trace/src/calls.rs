//! The calls themselves: each stands before the C library's, asks the kernel, and records what has changed.

use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_int, c_long, c_uint, c_void};

use crate::record::Record;
use crate::{Trace, path, set_traced, trace, traced};

pub fn raw_open(at: c_int, path: &CStr, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the path ends with a zero.
    let opened = unsafe { libc::syscall(libc::SYS_openat, at, path.as_ptr(), flags, mode) };
    // A descriptor, or -1 with errno set: it fits.
    opened as c_int
}

/// Writes all of it.
pub fn raw_write(fd: c_int, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: the bytes live as long as the call.
        let written = unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) };
        match usize::try_from(written) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) => return false,
        }
    }
    true
}

/// Ends the process at once, as SIGKILL does.
pub fn end() -> ! {
    // SAFETY: no memory is handed over.
    unsafe { libc::_exit(128 + libc::SIGKILL) }
}

fn stat(at: c_int, path: &CStr, flags: c_int) -> Option<libc::stat> {
    // SAFETY: a plain structure, which the kernel fills.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    let target = &raw mut found;
    // SAFETY: the path ends with a zero, and the structure is the one of this system call.
    let done = unsafe { libc::syscall(libc::SYS_newfstatat, at, path.as_ptr(), target, flags) };
    (done == 0).then_some(found)
}

pub fn inode(at: c_int, path: &CStr) -> Option<u64> {
    stat(at, path, libc::AT_SYMLINK_NOFOLLOW).map(|found| found.st_ino)
}

fn size(fd: c_int) -> u64 {
    let found = stat(fd, c"", libc::AT_EMPTY_PATH);
    found.map_or(0, |found| u64::try_from(found.st_size).unwrap_or(0))
}

/// The kernel's answer as the C library's type.
fn int(returned: c_long) -> c_int {
    returned as c_int
}

/// An absolute path, whatever it was given from.
fn absolute(at: c_int, path: &CStr) -> Option<CString> {
    if at == libc::AT_FDCWD || path.to_bytes().starts_with(b"/") {
        return Some(path.to_owned());
    }
    let link = CString::new(format!("/proc/self/fd/{at}")).ok()?;
    let mut folder = vec![0_u8; 4096];
    // SAFETY: the link ends with a zero, and the buffer is as long as is said.
    let len = unsafe { libc::readlink(link.as_ptr(), folder.as_mut_ptr().cast(), folder.len()) };
    folder.truncate(usize::try_from(len).ok()?);
    folder.push(b'/');
    folder.extend_from_slice(path.to_bytes());
    CString::new(folder).ok()
}

fn open_at(at: c_int, given: &CStr, flags: c_int, mode: c_uint) -> c_int {
    let Some(trace) = trace() else {
        return raw_open(at, given, flags, mode);
    };
    let place = absolute(at, given);
    let place = place.as_ref().and_then(|path| trace.place(path));
    let before = inode(at, given);
    let fd = raw_open(at, given, flags, mode);
    set_traced(fd, 0);
    if fd < 0 {
        return fd;
    }
    // The folder itself, which is no place in itself, is synced, too.
    let whole = given.to_bytes() == trace.folder;
    let Some(inode) = stat(fd, c"", libc::AT_EMPTY_PATH).map(|found| found.st_ino) else {
        return fd;
    };
    if whole {
        set_traced(fd, inode);
    }
    if let Some((folder, name)) = place {
        set_traced(fd, inode);
        if before.is_none() {
            trace.write(&Record::File {
                folder,
                inode,
                name,
            });
        } else if flags & libc::O_TRUNC != 0 {
            trace.write(&Record::Size { inode, size: 0 });
        }
    }
    fd
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(given: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise.
    open_at(libc::AT_FDCWD, unsafe { path(given) }, flags, mode)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(given: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise.
    open_at(libc::AT_FDCWD, unsafe { path(given) }, flags, mode)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    at: c_int,
    given: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    // SAFETY: the caller's promise.
    open_at(at, unsafe { path(given) }, flags, mode)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    at: c_int,
    given: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    // SAFETY: the caller's promise.
    open_at(at, unsafe { path(given) }, flags, mode)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    set_traced(fd, 0);
    // SAFETY: the kernel checks the descriptor.
    int(unsafe { libc::syscall(libc::SYS_close, fd) })
}

fn record_write(trace: &Trace, inode: u64, offset: u64, bytes: &[u8]) {
    // Files are made ready with zeros: they need not be stored.
    if bytes.iter().all(|byte| *byte == 0) {
        let len = bytes.len() as u64;
        return trace.write(&Record::Zeros { inode, offset, len });
    }
    trace.write(&Record::Write {
        inode,
        offset,
        bytes,
    });
}

/// Where `write` puts its bytes.
fn position(fd: c_int) -> u64 {
    // SAFETY: the kernel checks the descriptor.
    let flags = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) };
    if int(flags) & libc::O_APPEND != 0 {
        return size(fd);
    }
    // SAFETY: likewise.
    let at = unsafe { libc::syscall(libc::SYS_lseek, fd, 0, libc::SEEK_CUR) };
    u64::try_from(at).unwrap_or(0)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize {
    // SAFETY: the caller's promise.
    let ask = || unsafe { libc::syscall(libc::SYS_write, fd, bytes, count) } as isize;
    let (Some(inode), Some(trace)) = (traced(fd), trace()) else {
        return ask();
    };
    let offset = position(fd);
    let written = ask();
    if let Ok(len @ 1..) = usize::try_from(written) {
        // SAFETY: the kernel has read so many.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast(), len) };
        record_write(&trace, inode, offset, bytes);
    }
    written
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    bytes: *const c_void,
    count: usize,
    offset: i64,
) -> isize {
    // SAFETY: the caller's promise.
    let ask = || unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset) } as isize;
    let (Some(inode), Some(trace)) = (traced(fd), trace()) else {
        return ask();
    };
    let written = ask();
    if let Ok(len @ 1..) = usize::try_from(written) {
        // SAFETY: the kernel has read so many.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast(), len) };
        record_write(&trace, inode, u64::try_from(offset).unwrap_or(0), bytes);
    }
    written
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    fd: c_int,
    bytes: *const c_void,
    count: usize,
    offset: i64,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe { pwrite64(fd, bytes, count, offset) }
}

/// Each buffer by itself, as if the kernel had taken only the first: whoever calls this must be ready for that.
///
/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, buffers: *const libc::iovec, count: c_int) -> isize {
    if traced(fd).is_none() {
        // SAFETY: the caller's promise.
        return unsafe { libc::syscall(libc::SYS_writev, fd, buffers, count) } as isize;
    }
    // SAFETY: the caller's promise; empty ones are passed over.
    let buffers =
        unsafe { std::slice::from_raw_parts(buffers, usize::try_from(count).unwrap_or(0)) };
    match buffers.iter().find(|buffer| buffer.iov_len > 0) {
        // SAFETY: likewise.
        Some(buffer) => unsafe { write(fd, buffer.iov_base, buffer.iov_len) },
        None => 0,
    }
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, size: i64) -> c_int {
    // SAFETY: the kernel checks the descriptor.
    let ask = || int(unsafe { libc::syscall(libc::SYS_ftruncate, fd, size) });
    let (Some(inode), Some(trace)) = (traced(fd), trace()) else {
        return ask();
    };
    let done = ask();
    if done == 0 {
        let size = u64::try_from(size).unwrap_or(0);
        trace.write(&Record::Size { inode, size });
    }
    done
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, size: i64) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { ftruncate64(fd, size) }
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, offset: i64, len: i64) -> c_int {
    // SAFETY: the kernel checks the descriptor.
    let ask = || int(unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, offset, len) });
    let (Some(inode), Some(trace)) = (traced(fd), trace()) else {
        return ask();
    };
    let before = size(fd);
    let done = ask();
    let after = size(fd);
    if after != before {
        trace.write(&Record::Size { inode, size: after });
    }
    if done == 0 && mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let (offset, len) = (
            number(offset),
            number(len).min(after.saturating_sub(number(offset))),
        );
        trace.write(&Record::Zeros { inode, offset, len });
    }
    done
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: i64, len: i64) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { fallocate64(fd, mode, offset, len) }
}

/// The error's number, not -1.
///
/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate64(fd: c_int, offset: i64, len: i64) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { fallocate64(fd, 0, offset, len) } {
        0 => 0,
        // SAFETY: this thread's own.
        _ => unsafe { *libc::__errno_location() },
    }
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate(fd: c_int, offset: i64, len: i64) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { posix_fallocate64(fd, offset, len) }
}

/// A sync of a file of the folder: what was recorded before it began is on the disk once it has ended.
fn sync(fd: c_int, call: c_long) -> c_int {
    // SAFETY: the kernel checks the descriptor.
    let ask = || int(unsafe { libc::syscall(call, fd) });
    let Some(inode) = traced(fd) else {
        return ask();
    };
    let begun = trace().map(|mut trace| {
        trace.syncs += 1;
        let number = trace.syncs;
        trace.write(&Record::SyncBegins { inode, number });
        number
    });
    // Others go on meanwhile.
    let done = ask();
    if done == 0
        && let (Some(number), Some(trace)) = (begun, trace())
    {
        trace.write(&Record::SyncEnds { inode, number });
    }
    done
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fdatasync)
}

fn rename_at(from_at: c_int, from: &CStr, to_at: c_int, to: &CStr, flags: c_uint) -> c_int {
    // SAFETY: both paths end with a zero.
    let ask = || unsafe {
        let (from, to) = (from.as_ptr(), to.as_ptr());
        int(libc::syscall(
            libc::SYS_renameat2,
            from_at,
            from,
            to_at,
            to,
            flags,
        ))
    };
    let Some(trace) = trace() else {
        return ask();
    };
    let (old, new) = (absolute(from_at, from), absolute(to_at, to));
    let old = old.as_ref().and_then(|path| trace.place(path));
    let new = new.as_ref().and_then(|path| trace.place(path));
    let done = ask();
    if let (0, Some((from, old)), Some((to, new))) = (done, old, new) {
        let names = (old, new);
        trace.write(&Record::Rename { from, to, names });
    }
    done
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let here = libc::AT_FDCWD;
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (path(from), path(to)) };
    rename_at(here, from, here, to, 0)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_at: c_int,
    from: *const c_char,
    to_at: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (path(from), path(to)) };
    rename_at(from_at, from, to_at, to, 0)
}

fn unlink_at(at: c_int, given: &CStr, flags: c_int) -> c_int {
    // SAFETY: the path ends with a zero.
    let ask = || int(unsafe { libc::syscall(libc::SYS_unlinkat, at, given.as_ptr(), flags) });
    let Some(trace) = trace() else {
        return ask();
    };
    let place = absolute(at, given);
    let place = place.as_ref().and_then(|path| trace.place(path));
    let done = ask();
    if let (0, Some((folder, name))) = (done, place) {
        trace.write(&Record::Remove { folder, name });
    }
    done
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(given: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unlink_at(libc::AT_FDCWD, unsafe { path(given) }, 0)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(at: c_int, given: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unlink_at(at, unsafe { path(given) }, flags)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(given: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unlink_at(libc::AT_FDCWD, unsafe { path(given) }, libc::AT_REMOVEDIR)
}

fn mkdir_at(at: c_int, given: &CStr, mode: c_uint) -> c_int {
    // SAFETY: the path ends with a zero.
    let ask = || int(unsafe { libc::syscall(libc::SYS_mkdirat, at, given.as_ptr(), mode) });
    let Some(trace) = trace() else {
        return ask();
    };
    let place = absolute(at, given);
    let place = place.as_ref().and_then(|path| trace.place(path));
    let done = ask();
    if let (0, Some((folder, name)), Some(inode)) = (done, place, inode(at, given)) {
        trace.write(&Record::Folder {
            folder,
            inode,
            name,
        });
    }
    done
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(given: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise.
    mkdir_at(libc::AT_FDCWD, unsafe { path(given) }, mode)
}

/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(at: c_int, given: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise.
    mkdir_at(at, unsafe { path(given) }, mode)
}
