//! The node's own object: registered at start, its status kept true, its Lease renewed.

mod eviction;
mod heartbeat;
mod lease;
mod machine;
mod status;

pub use eviction::EvictionHard;
pub(crate) use heartbeat::{Heartbeat, register};
pub(crate) use lease::renew;
pub(crate) use machine::{Machine, allocatable};
