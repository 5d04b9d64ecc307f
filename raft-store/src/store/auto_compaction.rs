//! Compaction by time or by number of revisions, as etcd's `--auto-compaction-mode` has it. Only the leader compacts.
//!
//! What to compact is decided by a pure part that is told the time and the revision.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{Error, Store, limits};

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What is younger than this.
    Periodic(Duration),
    /// This many revisions.
    Revision(i64),
}

/// What was seen, and what was compacted.
#[derive(Debug)]
struct History {
    policy: AutoCompaction,
    /// Revisions at past looks, oldest first.
    seen: VecDeque<(Instant, i64)>,
    compacted: i64,
    last: Option<Instant>,
}

impl History {
    fn new(policy: AutoCompaction) -> Self {
        Self {
            policy,
            seen: VecDeque::new(),
            compacted: 0,
            last: None,
        }
    }

    /// Time between two compactions: the period itself, an hour at most.
    fn interval(&self) -> Duration {
        match self.policy {
            AutoCompaction::Periodic(period) => period.min(Duration::from_secs(3600)),
            AutoCompaction::Revision(_) => limits::COMPACT_REVISIONS_INTERVAL,
        }
    }

    /// Time between two looks: for periods a tenth, so that a compaction is at most that much late.
    fn look_interval(&self) -> Duration {
        match self.policy {
            AutoCompaction::Periodic(_) => self.interval() / 10,
            AutoCompaction::Revision(_) => self.interval(),
        }
        .max(Duration::from_millis(1))
    }

    /// A look at the store; the revision to compact at, if it is time.
    fn look(&mut self, now: Instant, revision: i64) -> Option<i64> {
        let target = match self.policy {
            AutoCompaction::Revision(kept) => revision - kept,
            AutoCompaction::Periodic(period) => {
                self.seen.push_back((now, revision));
                let old = |at: &Instant| now.duration_since(*at) >= period;
                let mut found = 0;
                // The newest one that is old enough; those before it are of no use any more.
                while let Some((at, seen)) = self.seen.front()
                    && old(at)
                {
                    found = *seen;
                    self.seen.pop_front();
                }
                // Looked at again if it is not time yet.
                if found > 0 {
                    self.seen
                        .push_front((now.checked_sub(period).unwrap_or(now), found));
                }
                let due = self
                    .last
                    .is_none_or(|last| now.duration_since(last) >= self.interval());
                if due { found } else { 0 }
            }
        };
        (target > self.compacted).then_some(target)
    }

    fn compacted(&mut self, now: Instant, revision: i64) {
        self.compacted = revision;
        self.last = Some(now);
    }
}

impl Store {
    /// Compacts by `policy` while this member leads, until the store stops.
    pub async fn auto_compact(self, policy: AutoCompaction) {
        let mut history = History::new(policy);
        let mut leadership = self.leadership();
        let mut looks = tokio::time::interval(history.look_interval());
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                changed = leadership.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
            let due = history.look(Instant::now(), self.revision());
            let Some(revision) = due.filter(|_| leadership.borrow().is_leader) else {
                continue;
            };
            match self.compact(revision, false).await {
                Ok(_) => tracing::info!(revision, ?policy, "compacted"),
                // Someone else was faster.
                Err(Error::Compacted { .. }) => {}
                Err(Error::Stopped) => return,
                Err(error) => {
                    tracing::warn!(revision, %error, "the automatic compaction failed; trying again");
                    continue;
                }
            }
            history.compacted(Instant::now(), revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_of_history_is_kept() {
        let start = Instant::now();
        let minutes = |n: u64| start + Duration::from_secs(60 * n);
        let mut history = History::new(AutoCompaction::Periodic(Duration::from_secs(1200)));
        assert_eq!(history.look_interval(), Duration::from_secs(120));
        let mut done = Vec::new();
        for n in (0..=60).step_by(2) {
            // One revision a minute.
            if let Some(revision) = history.look(minutes(n), 100 + n as i64) {
                history.compacted(minutes(n), revision);
                done.push((n, revision));
            }
        }
        assert_eq!(done, [(20, 100), (40, 120), (60, 140)]);
        assert!(history.seen.len() < 15);
    }

    #[test]
    fn long_periods_are_compacted_every_hour() {
        let start = Instant::now();
        let hours = |n: u64| start + Duration::from_secs(3600 * n);
        let mut history = History::new(AutoCompaction::Periodic(Duration::from_secs(3 * 3600)));
        let mut done = Vec::new();
        for n in 0..6 {
            if let Some(revision) = history.look(hours(n), 10 + n as i64) {
                history.compacted(hours(n), revision);
                done.push((n, revision));
            }
        }
        assert_eq!(done, [(3, 10), (4, 11), (5, 12)]);
        assert_eq!(history.look(hours(6), 15), Some(13));
        assert_eq!(
            history.look(hours(6), 15),
            Some(13),
            "it failed and is tried again"
        );
    }

    #[test]
    fn a_number_of_revisions_is_kept() {
        let now = Instant::now();
        let mut history = History::new(AutoCompaction::Revision(1000));
        assert_eq!(history.look(now, 900), None);
        assert_eq!(history.look(now, 1200), Some(200));
        history.compacted(now, 200);
        assert_eq!(history.look(now, 1200), None);
        assert_eq!(history.look(now, 1201), Some(201));
    }
}
