//! Watching: from applied changes to each watcher, in order, nothing lost, nobody held up.
//!
//! `ring` keeps recent revisions, `index` finds who is concerned, `hub` hands out, `history` reads what is older,
//! `watcher` is the receiving end. Must not know Raft.

mod history;
mod hub;
mod index;
mod queue;
mod ring;
mod watcher;

pub use hub::Hub;
pub use watcher::Watcher;
