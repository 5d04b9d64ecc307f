//! Faults that tests inject into this process; without one, a look at an atomic is all that they cost.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static LOG_SYNCS_LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Lets every sync of a log fail once `count` more have succeeded.
pub fn fail_log_sync_after(count: u64) {
    LOG_SYNCS_LEFT.store(count, Ordering::SeqCst);
}

static CLEANING_FAILS: AtomicBool = AtomicBool::new(false);

/// Lets whatever cleans up after a compaction fail from now on.
pub fn fail_cleaning() {
    CLEANING_FAILS.store(true, Ordering::SeqCst);
}

/// Called before what cleaning removes is written.
pub(crate) fn before_cleaning() -> io::Result<()> {
    match CLEANING_FAILS.load(Ordering::Relaxed) {
        true => Err(io::Error::from_raw_os_error(libc::EIO)),
        false => Ok(()),
    }
}

/// Called before a sync of the log.
pub(crate) fn before_log_sync() -> io::Result<()> {
    if LOG_SYNCS_LEFT.load(Ordering::Relaxed) == u64::MAX {
        return Ok(());
    }
    let left = LOG_SYNCS_LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    });
    left.map(drop)
        .map_err(|_| io::Error::from_raw_os_error(libc::EIO))
}

pub use crate::threads::{simulate, slow_disk};

thread_local! {
    static POWER_IS_LOST: Cell<bool> = const { Cell::new(false) };
}

/// While the power is lost, members that go away on this thread (a simulation's) leave behind what was synced, and
/// any part of what was not.
pub fn lose_power(lost: bool) {
    POWER_IS_LOST.set(lost);
}

pub(crate) fn power_is_lost() -> bool {
    POWER_IS_LOST.get()
}
