//! The types openraft is configured with.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::DecodeError;
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
#[derive(Clone, Debug)]
pub struct Proposal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    batch: Batch,
    /// Its bytes: made once for all who send it.
    encoded: OnceLock<Bytes>,
}

impl Proposal {
    pub fn batch(&self) -> &Batch {
        &self.0.batch
    }

    /// The batch; copied only if someone else still holds it.
    pub fn into_batch(self) -> Batch {
        match Arc::try_unwrap(self.0) {
            Ok(shared) => shared.batch,
            Err(shared) => shared.batch.clone(),
        }
    }

    /// Its bytes, kept for the next who asks.
    pub fn encoded(&self) -> &Bytes {
        self.0.encoded.get_or_init(|| {
            let mut out = Vec::new();
            self.0.batch.encode(&mut out);
            out.into()
        })
    }

    /// Appends its bytes, kept or not.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        match self.0.encoded.get() {
            Some(encoded) => out.extend_from_slice(encoded),
            None => self.0.batch.encode(out),
        }
    }

    pub fn decode(raw: Bytes) -> Result<Self, DecodeError> {
        let batch = Batch::decode(raw.clone())?;
        let encoded = OnceLock::from(raw);
        Ok(Self(Arc::new(Shared { batch, encoded })))
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.batch() == other.batch()
    }
}

impl From<Batch> for Proposal {
    fn from(batch: Batch) -> Self {
        let encoded = OnceLock::new();
        Self(Arc::new(Shared { batch, encoded }))
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commands of {:?}",
            self.batch().commands.len(),
            self.batch().origin
        )
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.encoded())
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Vec::<u8>::deserialize(deserializer)?;
        Self::decode(raw.into()).map_err(serde::de::Error::custom)
    }
}
