//! A wrong clock for one process: loaded by `LD_PRELOAD`, it adds an offset to the time of day that `clock_gettime` tells.
//! Time that only runs on (`CLOCK_MONOTONIC`) stays as it is: that is what a clock that is set anew does to a machine.
//!
//! The offset, nanoseconds as eight bytes in the machine's order, lies in the file that `CLOCK_OFFSET_FILE` names; it is mapped,
//! so that it can jump while the process runs at no cost. Without the variable or the file the clock is right. Must not
//! know whose clock it is.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::raw::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

const NANOS: i64 = 1_000_000_000;

type ClockGettime = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> c_int;

/// The mapped offset, for as long as the process lives.
fn shared() -> Option<&'static AtomicI64> {
    static SHARED: OnceLock<Option<&'static AtomicI64>> = OnceLock::new();
    *SHARED.get_or_init(|| {
        let file = File::open(std::env::var_os("CLOCK_OFFSET_FILE")?).ok()?;
        let len = size_of::<AtomicI64>();
        if file.metadata().ok()?.len() < len as u64 {
            return None;
        }
        // SAFETY: a new mapping of a file that is long enough; it is never unmapped, aligned to a page, and any eight
        // bytes are a number.
        unsafe {
            let address = libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            (address != libc::MAP_FAILED).then(|| &*address.cast::<AtomicI64>())
        }
    })
}

/// The C library's own.
fn real() -> Option<ClockGettime> {
    static REAL: OnceLock<Option<ClockGettime>> = OnceLock::new();
    *REAL.get_or_init(|| {
        // SAFETY: the next library's function of that name, if there is one, has this type.
        unsafe {
            let found = libc::dlsym(libc::RTLD_NEXT, c"clock_gettime".as_ptr());
            (!found.is_null())
                .then(|| std::mem::transmute::<*mut libc::c_void, ClockGettime>(found))
        }
    })
}

/// Stands before the C library's.
///
/// # Safety
/// As there: `time` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let Some(real) = real() else {
        return -1;
    };
    // SAFETY: handed on as it came.
    let result = unsafe { real(clock, time) };
    let is_of_day = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    if result == 0
        && is_of_day
        && let Some(shared) = shared()
    {
        let offset = shared.load(Ordering::Relaxed);
        // SAFETY: it has just been written to.
        let time = unsafe { &mut *time };
        let nanos = time.tv_nsec + offset.rem_euclid(NANOS);
        time.tv_sec += offset.div_euclid(NANOS) + nanos.div_euclid(NANOS);
        time.tv_nsec = nanos.rem_euclid(NANOS);
    }
    result
}
