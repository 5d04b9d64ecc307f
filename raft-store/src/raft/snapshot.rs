//! Snapshots as openraft sees them: this member's own state to send, or another's that was received.
//!
//! To send one: take [`StateSnapshot::source`], send its `id`, and its stream from the offset that the other side
//! names. To take one in: `DataDir::snapshots` and `snapshot::Receiver`, in chunks; then `Receiver::finish`, and hand
//! [`StateSnapshot::received`] to `Raft::install_full_snapshot`.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftSnapshotBuilder;
use parking_lot::Mutex;

use super::types::{StoredMembership, TypeConfig, log_id};
use crate::engine::Engine;
use crate::limits;
use crate::snapshot::{Header, Received, Source};

pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, StateSnapshot>;

/// The whole state at one log id.
#[derive(Debug)]
pub enum StateSnapshot {
    /// Of this member: a pinned view, streamed when someone asks.
    Own(Arc<Source>),
    /// Of another member: a file that was found whole.
    Received(Received),
    /// Known to be durable here, but not pinned: nothing to send.
    Durable,
}

impl StateSnapshot {
    /// What to send to another member.
    pub fn source(&self) -> Option<&Arc<Source>> {
        match self {
            StateSnapshot::Own(source) => Some(source),
            _ => None,
        }
    }

    /// What was received, as openraft installs it.
    pub fn received(received: Received) -> RaftSnapshot {
        RaftSnapshot {
            meta: meta_of(&received.summary.header),
            snapshot: StateSnapshot::Received(received),
        }
    }
}

pub fn meta_of(header: &Header) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(header.term, header.index)),
        last_membership: header.membership.clone(),
    }
}

/// What of the state is durable, and what is being sent.
#[derive(Debug, Default)]
pub struct Kept {
    pub durable: Option<SnapshotMeta>,
    /// Kept until the next checkpoint, so that a transfer that broke off may go on.
    pub sending: Option<Arc<Source>>,
}

impl Kept {
    /// Whether a member that takes in a snapshot needs the log behind it: then nothing may be purged now.
    pub fn holds_log(&self) -> bool {
        self.sending.as_ref().is_some_and(|source| {
            Arc::strong_count(source) > 1 && source.taken.elapsed() < limits::SNAPSHOT_HOLDS_LOG
        })
    }
}

/// Makes the state durable, so that the log before it may go.
pub struct SnapshotBuilder {
    pub engine: Arc<Engine>,
    pub last_log_id: Option<super::LogId>,
    pub last_membership: StoredMembership,
    pub kept: Arc<Mutex<Kept>>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = StateSnapshot;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let engine = self.engine.clone();
        crate::threads::spawn_blocking(move || engine.flush())
            .await?
            .map_err(io::Error::other)?;
        let meta = SnapshotMeta {
            last_log_id: self.last_log_id,
            last_membership: self.last_membership.clone(),
        };
        let mut kept = self.kept.lock();
        // A state that was installed meanwhile is newer.
        if kept.durable.as_ref().map(|meta| meta.last_log_id) < Some(meta.last_log_id) {
            *kept = Kept {
                durable: Some(meta.clone()),
                sending: None,
            };
        }
        Ok(RaftSnapshot {
            meta,
            snapshot: StateSnapshot::Durable,
        })
    }
}
