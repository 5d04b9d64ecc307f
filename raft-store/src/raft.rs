//! Raft (openraft) behind this crate's own names: types, state machine, network.
//!
//! Everything of openraft that the rest of the crate sees is named here. Must not know gRPC.

mod candidacy;
mod clock;
mod follow;
mod membership;
mod network;
mod node;
mod reconfigure;
mod service;
mod snapshot;
#[cfg(test)]
mod snapshot_test;
mod state_machine;
mod submit;
mod transfer;
mod types;
mod upkeep;

pub use candidacy::Votes;
pub use follow::Followed;
pub use membership::{Change, Facts, check_urls, list as list_members};
pub use node::{Node, Parts};
pub use reconfigure::{Reconfigure, best_successor};
pub use service::{AboutLease, Introduction, hash_kv};
pub use state_machine::{Applied, Outputs, StateMachine, load_applied, load_removed, save_applied};
pub use submit::{Verdict, submit_here, submit_there};
pub use transfer::{End, Incoming};
pub use types::{
    Entry, LogId, MemberInfo, Membership, Payload, Proposal, StoredMembership, TypeConfig, Vote,
    log_id,
};
