//! Raft (openraft) behind this crate's own names: types, state machine, network.
//!
//! Everything of openraft that the rest of the crate sees is named here. Must not know gRPC.

mod membership;
mod network;
mod node;
mod reconfigure;
// Parts of it only the transport between members uses.
#[allow(dead_code)]
mod snapshot;
#[cfg(test)]
mod snapshot_test;
mod state_machine;
mod types;

pub use membership::{Change, check_urls, list as list_members};
pub use node::{Node, Parts};
#[allow(unused_imports)]
pub use snapshot::StateSnapshot;
pub use state_machine::{Applied, Outputs, StateMachine, load_applied, save_applied};
pub use types::{
    Entry, LogId, MemberInfo, Membership, Payload, Proposal, StoredMembership, TypeConfig, Vote,
    log_id,
};
