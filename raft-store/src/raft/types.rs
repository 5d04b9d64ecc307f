//! The types openraft is configured with.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::command::Batch;

openraft::declare_raft_types!(
    /// One leader per term; entries carry command batches; answers travel beside Raft, from apply to the proposer.
    pub TypeConfig:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = MemberInfo,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub type Payload = openraft::type_config::alias::PayloadOf<TypeConfig>;
pub type Membership = openraft::Membership<u64, MemberInfo>;
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;

/// The id of the entry at `index` that a leader of `term` appended.
pub fn log_id(term: u64, index: u64) -> LogId {
    let leader_id = openraft::type_config::alias::CommittedLeaderIdOf::<TypeConfig>::new(term);
    LogId { leader_id, index }
}

/// What the cluster's configuration says of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Empty until the member has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// Empty until the member has started for the first time.
    pub client_urls: Vec<String>,
    /// It was added as a voter: the leader promotes it once it has caught up.
    #[serde(default)]
    pub becomes_voter: bool,
    /// Chosen when the member's data directory was made; 0 until the member has told it. Data that was wiped and
    /// made anew has another.
    #[serde(default)]
    pub incarnation: u64,
}

impl MemberInfo {
    /// Whether the member was ever started.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// A batch of commands on its way through the log: shared, never copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal(Arc<Batch>);

impl Proposal {
    pub fn batch(&self) -> &Batch {
        &self.0
    }

    /// The batch; copied only if someone else still holds it.
    pub fn into_batch(self) -> Batch {
        Arc::try_unwrap(self.0).unwrap_or_else(|shared| (*shared).clone())
    }
}

impl From<Batch> for Proposal {
    fn from(batch: Batch) -> Self {
        Self(Arc::new(batch))
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commands of {:?}",
            self.0.commands.len(),
            self.0.origin
        )
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = Vec::new();
        self.0.encode(&mut out);
        serializer.serialize_bytes(&out)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Vec::<u8>::deserialize(deserializer)?;
        Batch::decode(raw.into())
            .map(Self::from)
            .map_err(serde::de::Error::custom)
    }
}
