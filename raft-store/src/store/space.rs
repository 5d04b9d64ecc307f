//! Room: the quota of the state, and a reserve of free space on the disk. Without room, writes that need some are
//! refused and the NOSPACE alarm is raised; reads go on.
//!
//! The kernel tells nobody that a disk fills up, so this alone looks from time to time. A ballast file keeps enough
//! space for a start on a disk that others have filled.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::proposals::Proposals;
use crate::command::Command;
use crate::data_dir::DataDir;
use crate::log::preallocate;
use crate::mvcc::alarm;
use crate::raft::{
    Applied, Facts, Membership, Reconfigure, StateMachine, TypeConfig, best_successor,
};
use crate::{Alarm, AlarmKind, Config, Error, Leadership, limits};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// How much room there is.
pub struct Space {
    quota_bytes: u64,
    reserve_bytes: u64,
    data_dir: PathBuf,
    ballast: PathBuf,
    /// Size of the state when it was last measured, and what may have been added since.
    measured: AtomicU64,
    added: AtomicU64,
    disk_is_low: AtomicBool,
}

/// Why a write has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    Quota,
    Disk,
}

impl Space {
    /// To be called before anything is written: on a disk without free space it gives up the ballast.
    pub fn open(config: &Config, data_dir: &DataDir) -> Self {
        let space = Self {
            quota_bytes: config.quota_backend_bytes,
            reserve_bytes: config.disk_reserve_bytes,
            data_dir: data_dir.path().to_owned(),
            ballast: data_dir.ballast(),
            measured: AtomicU64::new(u64::MAX),
            added: AtomicU64::new(0),
            disk_is_low: AtomicBool::new(false),
        };
        if space.look_at_disk() == Some(true)
            && let Err(error) = std::fs::remove_file(&space.ballast)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the ballast file could not be removed");
        }
        space
    }

    /// Whether a command has room; `live_bytes` measures the state.
    pub fn check(&self, command: &Command, live_bytes: impl FnOnce() -> u64) -> Result<(), NoRoom> {
        let Some(cost) = alarm::cost(command) else {
            return Ok(());
        };
        if self.disk_is_low.load(Ordering::Relaxed) {
            return Err(NoRoom::Disk);
        }
        if self.quota_bytes == 0 {
            return Ok(());
        }
        let added = self.added.fetch_add(cost, Ordering::Relaxed) + cost;
        let measured = self.measured.load(Ordering::Relaxed);
        let step = (self.quota_bytes / 16).min(limits::QUOTA_MEASURE_BYTES);
        if added < step && measured.saturating_add(added) < self.quota_bytes {
            return Ok(());
        }
        // Measuring takes longer than a put: once per step, and always near the quota.
        let measured = live_bytes();
        self.measured.store(measured, Ordering::Relaxed);
        self.added.store(cost, Ordering::Relaxed);
        if measured + cost < self.quota_bytes {
            Ok(())
        } else {
            Err(NoRoom::Quota)
        }
    }

    /// Whether more than four fifths of the quota are used.
    pub fn is_scarce(&self, live_bytes: u64) -> bool {
        self.quota_bytes > 0 && live_bytes > self.quota_bytes / 5 * 4
    }

    /// Looks at the free space; whether it became low (`true`) or enough again (`false`).
    fn look_at_disk(&self) -> Option<bool> {
        if self.reserve_bytes == 0 {
            return None;
        }
        let free = match free_bytes(&self.data_dir) {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "the free space of the disk is not known");
                return None;
            }
        };
        let was_low = self.disk_is_low.load(Ordering::SeqCst);
        let ballast = if self.ballast.exists() {
            0
        } else {
            limits::BALLAST_BYTES
        };
        // With some distance between the bounds, so that it does not go back and forth.
        let is_low = match was_low {
            false => free < self.reserve_bytes,
            true => free < self.reserve_bytes / 4 * 5 + ballast,
        };
        if !is_low && let Err(error) = self.make_ballast() {
            tracing::warn!(%error, "the ballast file could not be made");
        }
        self.disk_is_low.store(is_low, Ordering::SeqCst);
        match (was_low, is_low) {
            (false, true) => {
                tracing::error!(
                    free,
                    reserve = self.reserve_bytes,
                    "the disk is nearly full: writes are refused until there is space again"
                );
                Some(true)
            }
            (true, false) => {
                tracing::info!(free, "the disk has space again: writes are taken");
                Some(false)
            }
            _ => None,
        }
    }

    fn make_ballast(&self) -> io::Result<()> {
        if self.ballast.exists() {
            return Ok(());
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.ballast)?;
        preallocate(&file, limits::BALLAST_BYTES)
    }
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(path)?;
    Ok(found.blocks_available() as u64 * found.fragment_size() as u64)
}

/// What follows the disk's free space, and whom it tells.
pub struct DiskLooks {
    pub space: Arc<Space>,
    pub member: u64,
    pub view: Arc<ArcSwap<Applied>>,
    pub proposals: Arc<Proposals>,
    pub raft: Raft,
    pub reconfigure: Arc<Reconfigure>,
    /// How long another member may take to lead.
    pub patience: Duration,
}

impl DiskLooks {
    /// Looks until the store stops: raises the member's alarm and takes it back; a leader without room hands over.
    pub async fn run(self, mut leadership: watch::Receiver<Leadership>) {
        let mut ticks = tokio::time::interval(limits::DISK_LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut handed_over = false;
        let mut tried = BTreeSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = leadership.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
            self.space.look_at_disk();
            let low = self.space.disk_is_low.load(Ordering::SeqCst);
            if self.tell(low).await == Err(Error::Stopped) {
                return;
            }
            // Once only: if the others have no room either, it shall not go round and round.
            if low && !handed_over && leadership.borrow().is_leader {
                handed_over = self.hand_over(&mut leadership, &mut tried).await;
            }
            if handed_over || !low {
                tried.clear();
            }
            handed_over &= low;
        }
    }

    async fn tell(&self, low: bool) -> Result<(), Error> {
        let alarm = Alarm {
            member_id: self.member,
            kind: AlarmKind::NoSpace,
        };
        let on = match self.view.load().alarms.is_automatic(alarm) {
            None if low => true,
            // An alarm that was raised before a restart goes, too.
            Some(true) if !low => false,
            _ => return Ok(()),
        };
        let command = Command::Alarm {
            alarm,
            on,
            automatic: true,
        };
        let told = self.proposals.propose(command).await.map(drop);
        if let Err(error) = &told {
            tracing::debug!(%error, "the alarm could not be set; trying again");
        }
        told
    }

    /// Lets the best of the others lead that were not tried in vain; whether one does.
    async fn hand_over(
        &self,
        leadership: &mut watch::Receiver<Leadership>,
        tried: &mut BTreeSet<u64>,
    ) -> bool {
        let Ok((membership, facts)) = self.reconfigure.look(&self.raft) else {
            return false;
        };
        let view = self.view.load();
        let crowded = view.alarms.list().into_iter();
        let crowded = crowded.filter(|alarm| alarm.kind == AlarmKind::NoSpace);
        let unfit = crowded.map(|alarm| alarm.member_id);
        let unfit: BTreeSet<u64> = unfit.chain(tried.iter().copied()).collect();
        drop(view);
        let Some(other) = successor(&membership, facts, &unfit) else {
            // Whoever did not take it may do so later.
            tried.clear();
            return false;
        };
        tracing::warn!(
            to = format_args!("{other:x}"),
            "no room for the log: handing leadership over"
        );
        if self.raft.trigger().transfer_leader(other).await.is_err() {
            return false;
        }
        let moved = leadership.wait_for(|now| now.leader.is_some() && !now.is_leader);
        match tokio::time::timeout(self.patience, moved).await {
            Ok(moved) => moved.is_ok(),
            Err(_) => {
                tracing::warn!(to = format_args!("{other:x}"), "it did not take it over");
                tried.insert(other);
                false
            }
        }
    }
}

/// Who is to lead: the voter that lacks least, of those heard of lately and not known as unfit.
fn successor(membership: &Membership, mut facts: Facts, unfit: &BTreeSet<u64>) -> Option<u64> {
    facts.active.retain(|id| !unfit.contains(id));
    best_successor(membership, &facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leadership_goes_to_whom_it_is_of_use() {
        let voters = [BTreeSet::from([1, 2, 3, 4])];
        let nodes =
            std::collections::BTreeMap::from_iter((1..=5).map(|id| (id, Default::default())));
        let membership = Membership::new(voters.to_vec(), nodes).unwrap();
        let check = |active: &[u64], unfit: &[u64], expect| {
            let facts = Facts {
                leader: 1,
                last_index: 90,
                matched: [(2, 90), (3, 80), (4, 70)].into(),
                active: active.iter().copied().collect(),
            };
            let unfit = unfit.iter().copied().collect();
            assert_eq!(successor(&membership, facts, &unfit), expect);
        };
        check(&[2, 3, 4, 5], &[], Some(2));
        // The first is down, the second has no room either, the third was tried.
        check(&[3, 4], &[], Some(3));
        check(&[3, 4], &[3], Some(4));
        check(&[3, 4], &[3, 4], None);
        check(&[], &[], None);
        check(&[5], &[], None);
    }
}
