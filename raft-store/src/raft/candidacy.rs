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

    /// Supports the candidacy that will ask for this vote in a moment, unless another may still succeed: whether it does.
    pub fn support(&self, request: &VoteRequest<TypeConfig>) -> bool {
        {
            let mut begun = self.begun.lock();
            if begun.is_some_and(|begun| begun.elapsed() < self.needs()) {
                return false;
            }
            *begun = Some(Instant::now());
        }
        self.votes.promise(request.vote);
        true
    }

    /// This member has given its vote, or is the candidate.
    pub fn begin(&self) {
        *self.begun.lock() = Some(Instant::now());
    }

    /// How long one may take that succeeds.
    fn needs(&self) -> Duration {
        let needs = limits::CANDIDACY_SYNCS * self.votes.sync_time();
        needs.min(limits::LONGEST_CANDIDACY)
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
        let request = VoteRequest::<TypeConfig>::new(Vote::new(2, 1), None);
        let candidacy = |sync| Candidacy::new(Arc::new(Disk(sync)));
        let slow = candidacy(Duration::from_millis(200));
        assert!(slow.support(&request));
        tokio::time::advance(Duration::from_millis(790)).await;
        assert!(!slow.support(&request));
        tokio::time::advance(Duration::from_millis(20)).await;
        assert!(slow.support(&request), "another may have its turn");
        let stalled = candidacy(Duration::from_secs(100));
        stalled.begin();
        assert!(!stalled.support(&request));
        tokio::time::advance(limits::LONGEST_CANDIDACY).await;
        assert!(stalled.support(&request));
    }
}
