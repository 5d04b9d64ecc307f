//! Every bound of the store in one place, with its unit.
//!
//! A queue, cache or request without a limit here is a mistake. Must not know: who enforces them.

use std::time::Duration;

/// Largest encoded write request, bytes (etcd's `--max-request-bytes` default: 1.5 MiB).
pub const MAX_REQUEST_BYTES: usize = 3 * 512 * 1024;
/// Most operations in one branch of a transaction (etcd's `--max-txn-ops` default).
pub const MAX_TXN_OPS: usize = 128;
/// Longest lease, seconds (etcd's `MaxLeaseTTL`).
pub const MAX_LEASE_TTL_SECONDS: i64 = 9_000_000_000;
/// Most leases revoked by one proposal when many expire together.
pub const MAX_EXPIRED_PER_PROPOSAL: usize = 256;

/// Keys that a short range may meet: reading them takes less than handing the request to another thread is worth.
pub const SHORT_RANGE_KEYS: usize = 500;
/// Bytes of keys and values that it may meet.
pub const SHORT_RANGE_BYTES: usize = 256 * 1024;
/// Keys and values of a range's answer share blocks of this size, bytes: whoever keeps one keeps no more than that.
pub const RANGE_BLOCK_BYTES: usize = 16 * 1024;

/// Most commands that share one Raft log entry.
pub const MAX_COMMANDS_PER_ENTRY: usize = 1024;
/// Most bytes of commands that share one Raft log entry (one larger command still travels alone).
pub const MAX_BYTES_PER_ENTRY: usize = 1024 * 1024;
/// Log entries that this member may have proposed and not yet applied.
pub const MAX_ENTRIES_IN_FLIGHT: usize = 2;
/// Commands that may wait for a place in an entry; beyond it callers get `TooManyRequests`.
pub const MAX_QUEUED_COMMANDS: usize = 20_000;
/// Bytes of those commands (a single one may be larger).
pub const MAX_QUEUED_BYTES: usize = 256 * 1024 * 1024;

/// Commands up to which the only voter waits for the rest of those that were answered together.
pub const GATHERED_COMMANDS: usize = 32;
/// How long it does.
pub const GATHERING_TIME: Duration = Duration::from_micros(150);
/// Who has not come back after this comes when it will.
pub const GATHERED_WITHIN: Duration = Duration::from_millis(1);
/// Where they do not come back, it tries only once in this power of two.
pub const GATHERING_PAUSE_LOG2: u32 = 6;
/// Commands up to which the only voter writes its log without a change of thread.
pub const LOG_COMMANDS_FLUSHED_HERE: usize = 256;
/// Mean time of a sync up to which it does: while a slower disk is at work, its thread goes on with other things.
pub const LOG_SYNC_FLUSHED_HERE: Duration = Duration::from_millis(2);
/// Syncs that an election takes: the votes, that of the new leader, and what a disk was at before each.
pub const CANDIDACY_SYNCS: u32 = 4;
/// A candidacy that took longer has failed, however slow the disks.
pub const LONGEST_CANDIDACY: Duration = Duration::from_secs(5);
/// Size of one log segment, bytes.
pub const LOG_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Size of one that is needed before a whole one is ready, bytes.
pub const LOG_SHORT_SEGMENT_BYTES: u64 = 1024 * 1024;
/// Bytes of a segment that are made ready at a time: the log's syncs wait behind them.
pub const LOG_FILL_BYTES: usize = 256 * 1024;
/// The log's buffer for writes is given back when a large one has made it larger than this, bytes.
pub const LOG_BUFFER_BYTES: usize = 512 * 1024;
/// Decoded log entries kept in memory for apply and replication, bytes.
pub const LOG_CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Purged segments kept for reuse, so that appends overwrite allocated blocks.
pub const LOG_SPARE_SEGMENTS: usize = 2;
/// Log segments after which the state is flushed and the log before it may go.
pub const LOG_SEGMENTS_PER_CHECKPOINT: usize = 4;
/// Newest log segments kept behind a checkpoint, so that members that were away catch up from the log.
pub const LOG_SEGMENTS_KEPT: u64 = 3;

/// Most learners that stay learners (etcd's `--max-learners` default).
pub const MAX_LEARNERS: usize = 1;
/// A member that was added as a voter becomes one when it lacks at most so many entries.
pub const PROMOTION_LAG_ENTRIES: u64 = 1_000;
/// How long a request may wait for agreement, beside two election timeouts (as etcd).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Batches of each member that the leader remembers having taken.
pub const PROPOSALS_REMEMBERED: usize = 256;
/// Largest message of one who has not said yet who it is, or is no member, bytes.
pub const PEER_GREETING_BYTES: usize = 64 * 1024;
/// Largest message between members, bytes.
pub const PEER_FRAME_BYTES: usize = 64 * 1024 * 1024;
/// Calls that may be under way on one connection between members.
pub const PEER_CALLS: usize = 1_024;
/// Messages written to another member by one system call.
pub const PEER_FRAMES_PER_WRITE: usize = 64;
/// Buffer of a connection between members, bytes.
pub const PEER_BUFFER_BYTES: usize = 32 * 1024;
/// Connections from other members at one listener.
pub const PEER_CONNECTIONS: usize = 128;
/// TLS handshakes of members that may wait to be taken up.
pub const PEER_HANDSHAKES: usize = 16;
/// Appends that may be under way to one member.
pub const PEER_APPENDS: usize = 64;
/// An append carries entries up to this size (and at least one), bytes.
pub const PEER_APPEND_BYTES: usize = 1024 * 1024;

/// Events kept in memory for watchers that start slightly in the past: bytes of keys and values.
pub const WATCH_RING_BYTES: usize = 4 * 1024 * 1024;
/// Revisions kept in memory for watchers.
pub const WATCH_RING_REVISIONS: usize = 16_384;
/// Revisions that may wait in one watcher's queue before it falls back to reading history.
pub const WATCH_QUEUE_REVISIONS: usize = 1_024;
/// Bytes of the events in it, previous states included, before it does (a single revision may be larger).
pub const WATCH_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Most revisions in one batch handed to a watcher.
pub const WATCH_BATCH_REVISIONS: usize = 1_000;
/// A batch ends after the revision with which it passes this size, bytes.
pub const WATCH_BATCH_BYTES: usize = 1024 * 1024;

/// Revisions cleaned up by one background compaction step.
pub const COMPACTION_STEP_REVISIONS: usize = 1_000;

/// Rows kept in memory because they were written or read lately, bytes: keys and values of living keys, and their places.
pub const KNOWN_ROWS_BYTES: usize = 8 * 1024 * 1024;
/// Largest row that is kept, bytes.
pub const KNOWN_ROW_BYTES: usize = 64 * 1024;
/// Ranges remembered because they were asked for and not known; 4 bytes each.
pub const ASKED_RANGES: usize = 4096;

/// Memory for cached RocksDB blocks, bytes.
pub const BLOCK_CACHE_BYTES: usize = 12 * 1024 * 1024;
/// Bytes of a new RocksDB file after which what is written is handed to the disk.
pub const FILE_SYNC_BYTES: u64 = 512 * 1024;
/// A RocksDB file is merged at once when, among so many rows in a row, …
pub const TOMBSTONE_WINDOW_ROWS: usize = 128;
/// … so many are removals, …
pub const TOMBSTONES_IN_WINDOW: usize = 64;
/// … or this share of all its rows is.
pub const TOMBSTONE_SHARE: f64 = 0.5;
/// RocksDB write buffer per column family, bytes.
pub const WRITE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// A block of a snapshot ends after the row with which it passes this size, bytes.
pub const SNAPSHOT_BLOCK_BYTES: usize = 128 * 1024;
/// Blocks of a snapshot that are read ahead of its receiver.
pub const SNAPSHOT_BLOCKS_AHEAD: usize = 4;
/// Time for which a snapshot that a member takes in keeps the log behind it from being purged.
pub const SNAPSHOT_HOLDS_LOG: Duration = Duration::from_secs(600);
/// Rows written at once when a database is built from a snapshot, bytes.
pub const BULK_BATCH_BYTES: usize = 1024 * 1024;
/// Read ahead by a scan over a whole column family, bytes.
pub const SCAN_READAHEAD_BYTES: usize = 512 * 1024;

/// Default quota of the state, bytes (etcd's `--quota-backend-bytes` default: 2 GiB).
pub const QUOTA_BACKEND_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// The state is measured again after writes of this size, bytes.
pub const QUOTA_MEASURE_BYTES: u64 = 4 * 1024 * 1024;
/// Free space of the disk below which writes are refused, bytes: room for the log and for flushes under way.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// Space kept for a start on a full disk, bytes: one log segment and what the state's database writes when opened.
pub const BALLAST_BYTES: u64 = 16 * 1024 * 1024;
/// Time between two looks at the disk's free space.
pub const DISK_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two automatic compactions by number of revisions (as etcd).
pub const COMPACT_REVISIONS_INTERVAL: Duration = Duration::from_secs(300);

/// Default time between a leader's heartbeats (etcd's default).
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// Default election timeout (etcd's default).
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);
/// Linearizable reads that may wait for a round; further ones wait to be let in.
pub const MAX_QUEUED_READS: usize = 16_384;
