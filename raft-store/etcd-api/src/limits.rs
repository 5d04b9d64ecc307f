//! The bounds of the API that are not etcd's flags, in one place; those of the store are in `raft_store::limits`.

/// Most watchers on one stream; further ones are refused.
pub const MAX_WATCHERS_PER_STREAM: usize = 100_000;
/// Most watchers of all clients of a member together; each takes a few kilobytes. Further ones are refused.
pub const MAX_WATCHERS: usize = 300_000;
