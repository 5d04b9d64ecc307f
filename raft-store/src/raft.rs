//! Raft (openraft) behind this crate's own names: types, state machine, network.
//!
//! Everything of openraft that the rest of the crate sees is named here. Must not know gRPC.

mod membership;
mod network;
mod node;
mod reconfigure;
mod state_machine;
mod types;

pub use membership::{Change, check_urls, list as list_members};
pub use node::{Node, Parts};
pub use state_machine::{Applied, Outputs, StateMachine};
pub use types::{Entry, LogId, Membership, Payload, Proposal, TypeConfig, Vote, log_id};
