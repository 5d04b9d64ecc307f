//! The background cleaner: follows the floor and removes what nobody can read any more, in small steps.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::space::Space;
use crate::engine::Snapshot;
use crate::fatal::end_process;
use crate::fault;
use crate::limits;
use crate::metrics::Metrics;
use crate::mvcc::compact::{self, Cleaned};
use crate::mvcc::engine::{EngineError, WriteSet};
use crate::raft::{Applied, load_applied};

/// Cleans up behind the floor until the store stops; tells how far it came.
pub async fn clean(
    view: Arc<ArcSwap<Applied>>,
    mut floor: watch::Receiver<i64>,
    cleaned: watch::Sender<i64>,
    space: Arc<Space>,
    metrics: Metrics,
) {
    loop {
        let target = *floor.borrow_and_update();
        metrics.compacted_revision.set(target);
        let (view, space) = (view.clone(), space.clone());
        let step = move || {
            let removed = clean_to(&view, target)?;
            if removed {
                // The present view still sees what was removed, and while nobody writes it stays.
                renew(&view)?;
            }
            let engine = view.load().snapshot.engine().clone();
            // Removed rows take up space until files are merged, which files full of removals cause. All of them are merged
            // where space is scarce.
            if removed {
                engine.flush()?;
            }
            if space.is_scarce(engine.size().1) {
                engine.compact();
            }
            Ok::<_, EngineError>(())
        };
        match crate::threads::spawn_blocking(step).await {
            Ok(Ok(())) => drop(cleaned.send_replace(target)),
            // As for every other write of the state. To go on would leave those waiting who asked for it.
            Ok(Err(error)) => end_process("cleaning up after a compaction", &error),
            Err(_) => return,
        }
        if floor.changed().await.is_err() {
            return;
        }
    }
}

/// Puts a view of the same state in the place of the present one, if that still is the newest.
fn renew(view: &ArcSwap<Applied>) -> Result<(), EngineError> {
    let old = view.load_full();
    let snapshot = Snapshot::take(old.snapshot.engine());
    // Otherwise a batch was written whose view comes right away.
    if load_applied(&snapshot)?.0 == old.log_id {
        let new = Applied {
            horizon: old.horizon,
            log_id: old.log_id,
            alarms: old.alarms.clone(),
            snapshot,
        };
        view.compare_and_swap(&old, Arc::new(new));
    }
    Ok(())
}

/// Whether there was anything to do.
fn clean_to(view: &ArcSwap<Applied>, floor: i64) -> Result<bool, EngineError> {
    let mut writes = WriteSet::default();
    let mut engine = view.load().snapshot.engine().clone();
    let mut at = Cleaned::load(&*engine)?;
    let behind = !at.has_reached(floor);
    while !at.has_reached(floor) {
        let view = view.load_full();
        // The state may have been replaced by another, which has been cleaned up as far as it says.
        if !Arc::ptr_eq(&engine, view.snapshot.engine()) {
            engine = view.snapshot.engine().clone();
            at = Cleaned::load(&*engine)?;
            continue;
        }
        at = compact::step(
            &view.snapshot,
            at,
            floor,
            limits::COMPACTION_STEP_REVISIONS,
            &mut writes,
        )?;
        fault::before_cleaning().map_err(|error| EngineError::Io(error.to_string()))?;
        engine.commit(&writes)?;
        writes.clear();
    }
    Ok(behind)
}
