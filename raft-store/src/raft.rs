//! Raft (openraft) behind this crate's own names: types, state machine, network.
//!
//! Everything of openraft that the rest of the crate sees is named here. Must not know gRPC.

mod network;
mod node;
mod state_machine;
mod types;

pub use node::{Node, Parts};
pub use state_machine::{Applied, Outputs, StateMachine};
pub use types::{Entry, LogId, Membership, Payload, Proposal, TypeConfig, Vote, log_id};
