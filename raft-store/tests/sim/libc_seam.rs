//! Time and randomness as the simulator's thread sees them: a waiting thread lets virtual time leap, and what the
//! kernel gives as randomness comes from the seed.
//!
//! Three functions of libc are replaced in this program: so the product, tokio, openraft and the standard library
//! run unchanged, and none of them can escape the seed. Other threads (RocksDB's) get the real ones.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use libc::{c_int, c_uint, c_void, clockid_t, epoll_event, size_t, ssize_t, timespec};

thread_local! {
    /// Nanoseconds of the host that runs; none on threads that are not simulated.
    static CLOCK: Cell<Option<u64>> = const { Cell::new(None) };
    /// How far the host's clock may go now.
    static LIMIT: Cell<u64> = const { Cell::new(0) };
    /// The host has nothing to do before that.
    static IDLE_UNTIL: Cell<Option<u64>> = const { Cell::new(None) };
    /// Woken when it has nothing to do.
    static ROOT: RefCell<Option<Waker>> = const { RefCell::new(None) };
    /// State of the generator; none where randomness is real.
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread's clock stands at `nanos` until it waits for something.
pub fn set_clock(nanos: u64) {
    CLOCK.set(Some(nanos));
}

/// What this thread's clock shows.
pub fn clock() -> u64 {
    CLOCK.get().expect("the thread is simulated")
}

/// Lets a host run on this thread, its clock from `now` until at most `limit`; what the clock would have to show before the
/// host does anything by itself.
pub fn run(runtime: &tokio::runtime::Runtime, now: u64, limit: u64) -> u64 {
    set_clock(now);
    LIMIT.set(limit);
    IDLE_UNTIL.set(None);
    runtime.block_on(poll_fn(|context| match IDLE_UNTIL.get() {
        Some(until) => Poll::Ready(until),
        None => {
            ROOT.set(Some(context.waker().clone()));
            Poll::Pending
        }
    }))
}

/// From now on this thread's randomness follows from `seed`.
pub fn set_seed(seed: u64) {
    RANDOM.set(Some(seed));
}

/// SplitMix64.
fn next_random() -> Option<u64> {
    let state = RANDOM.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(Some(state));
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(mixed ^ (mixed >> 31))
}

// SAFETY: the signature and the contract are those of getrandom(2): `buffer` has room for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    if RANDOM.get().is_none() {
        // SAFETY: as called.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) } as ssize_t;
    }
    // SAFETY: the caller lends `len` bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for chunk in bytes.chunks_mut(8) {
        let random = next_random().expect("looked at above").to_le_bytes();
        chunk.copy_from_slice(&random[..chunk.len()]);
    }
    len as ssize_t
}

// SAFETY: the signature and the contract are those of clock_gettime(2): `time` may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    match CLOCK.get() {
        Some(nanos) if clock == libc::CLOCK_MONOTONIC => {
            let shown = timespec {
                tv_sec: (nanos / 1_000_000_000) as libc::time_t,
                tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
            };
            // SAFETY: as called.
            unsafe { time.write(shown) };
            0
        }
        // SAFETY: as called.
        _ => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int },
    }
}

// SAFETY: the signature and the contract are those of epoll_wait(2): `events` has room for `max` events.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout_millis: c_int,
) -> c_int {
    let wait = |timeout: c_int| {
        let no_mask = std::ptr::null::<c_void>();
        // SAFETY: as called.
        unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                epoll,
                events,
                max,
                timeout,
                no_mask,
                8,
            ) as c_int
        }
    };
    let Some(nanos) = CLOCK.get() else {
        return wait(timeout_millis);
    };
    let ready = wait(0);
    if ready != 0 || timeout_millis == 0 {
        return ready;
    }
    let next = match u64::try_from(timeout_millis) {
        Ok(millis) => nanos + millis * 1_000_000,
        Err(_) => u64::MAX,
    };
    if next <= LIMIT.get() {
        CLOCK.set(Some(next));
    } else {
        CLOCK.set(Some(nanos.max(LIMIT.get())));
        IDLE_UNTIL.set(Some(next));
        if let Some(root) = ROOT.take() {
            root.wake();
        }
    }
    0
}
