//! One pod on this node: what is seen of it, what to do next, and the task that does it.
//!
//! `decide` and `status` are pure; `worker`, `effects` and `terminate` touch the world. Nothing here knows how pods reach the node.

mod actions;
pub(crate) mod backoff;
mod conditions;
mod containers;
mod decide;
mod effects;
mod init;
mod mounts;
mod observe;
pub(crate) mod observed;
mod phase;
pub(crate) mod spec;
pub(crate) mod status;
mod status_writer;
mod terminate;
mod worker;

pub(crate) use worker::{Desired, Wakers, Worker};
