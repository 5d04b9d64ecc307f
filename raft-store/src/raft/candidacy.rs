//! Elections on slow disks: one candidate at a time, and votes that are on their way to the disk before they are asked for.
//!
//! Openraft repeats a candidacy that was not answered within a fifth of the election timeout, and counts no later answer. A
//! vote is answered once it is on the disk; where that takes longer, rivals would overtake each other for ever. So whoever
//! grants a pre-vote begins at once to write down the vote that will follow, while the candidate writes its own: nobody
//! knows of it yet, and a promise that is kept too early is still kept. And for as long as the disk needs, no other pre-vote
//! is granted.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::VoteRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::types::{TypeConfig, Vote};
use crate::limits;

/// What of the log a candidacy needs.
pub trait Votes: Send + Sync {
    /// Begins to make the vote durable, if it is higher than all before it.
    fn promise(&self, vote: Vote);
    /// What a sync takes lately.
    fn sync_time(&self) -> Duration;
}

/// Whose candidacy is under way, as far as this member knows.
pub struct Candidacy {
    votes: Arc<dyn Votes>,
    begun: Mutex<Option<Instant>>,
}

impl Candidacy {
    pub fn new(votes: Arc<dyn Votes>) -> Self {
        Self {
            votes,
            begun: Mutex::new(None),
        }
    }

    /// Whether one may still succeed that this member supports, so that no other should begin.
    pub fn is_under_way(&self) -> bool {
        let needs = limits::CANDIDACY_SYNCS * self.votes.sync_time();
        let needs = needs.min(limits::LONGEST_CANDIDACY);
        let begun = *self.begun.lock();
        begun.is_some_and(|begun| begun.elapsed() < needs)
    }

    /// This member supports one, or is the candidate.
    pub fn begin(&self) {
        *self.begun.lock() = Some(Instant::now());
    }

    /// This vote will be asked for in a moment.
    pub fn expect(&self, request: &VoteRequest<TypeConfig>) {
        self.votes.promise(request.vote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Disk(Duration);

    impl Votes for Disk {
        fn promise(&self, _: Vote) {}

        fn sync_time(&self) -> Duration {
            self.0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_candidacy_is_left_alone_for_as_long_as_the_disk_needs() {
        let disk = Arc::new(Disk(Duration::from_millis(200)));
        let candidacy = Candidacy::new(disk);
        assert!(!candidacy.is_under_way());
        candidacy.begin();
        tokio::time::advance(Duration::from_millis(790)).await;
        assert!(candidacy.is_under_way());
        tokio::time::advance(Duration::from_millis(20)).await;
        assert!(!candidacy.is_under_way(), "another may have its turn");
        let stalled = Candidacy::new(Arc::new(Disk(Duration::from_secs(100))));
        stalled.begin();
        tokio::time::advance(limits::LONGEST_CANDIDACY).await;
        assert!(!stalled.is_under_way());
    }
}
