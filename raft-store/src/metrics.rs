//! Metrics of one store, for whoever serves `/metrics`. Names are etcd's where the meaning is the same.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Handles of all metrics; clones share the values.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub proposals_applied: Counter,
    pub proposals_failed: Counter,
    pub proposals_refused: Counter,
    pub commands_per_entry: Histogram,
    pub fsync_seconds: Histogram,
    pub apply_seconds: Histogram,
    pub watchers: Gauge,
    /// Watchers that read history because they are behind.
    pub slow_watchers: Gauge,
    pub watch_events: Counter,
    pub leases: Gauge,
    pub leases_expired: Counter,
    pub revision: Gauge,
    pub compacted_revision: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        Self {
            proposals_applied: Counter::default(),
            proposals_failed: Counter::default(),
            proposals_refused: Counter::default(),
            commands_per_entry: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            fsync_seconds: seconds(),
            apply_seconds: seconds(),
            watchers: Gauge::default(),
            slow_watchers: Gauge::default(),
            watch_events: Counter::default(),
            leases: Gauge::default(),
            leases_expired: Counter::default(),
            revision: Gauge::default(),
            compacted_revision: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Adds all metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let server = registry.sub_registry_with_prefix("etcd_server");
        server.register(
            "commands_applied",
            "Commands applied for callers of this member",
            self.proposals_applied.clone(),
        );
        server.register(
            "proposals_failed",
            "Commands that Raft did not take",
            self.proposals_failed.clone(),
        );
        server.register(
            "proposals_refused",
            "Commands refused because too many waited",
            self.proposals_refused.clone(),
        );
        server.register(
            "proposal_batch_commands",
            "Commands per log entry",
            self.commands_per_entry.clone(),
        );
        server.register_with_unit(
            "apply_duration",
            "Time to apply a batch",
            Unit::Seconds,
            self.apply_seconds.clone(),
        );
        let disk = registry.sub_registry_with_prefix("etcd_disk");
        disk.register_with_unit(
            "wal_fsync_duration",
            "Time of the log's fdatasync",
            Unit::Seconds,
            self.fsync_seconds.clone(),
        );
        let debugging = registry.sub_registry_with_prefix("etcd_debugging_mvcc");
        debugging.register("watcher_total", "Watchers", self.watchers.clone());
        debugging.register(
            "slow_watcher_total",
            "Watchers that read history",
            self.slow_watchers.clone(),
        );
        debugging.register(
            "events",
            "Events handed to watchers",
            self.watch_events.clone(),
        );
        debugging.register(
            "current_revision",
            "Revision applied",
            self.revision.clone(),
        );
        debugging.register(
            "compact_revision",
            "Floor of history",
            self.compacted_revision.clone(),
        );
        let lease = registry.sub_registry_with_prefix("etcd_debugging_lease");
        lease.register("active", "Leases", self.leases.clone());
        lease.register(
            "expired",
            "Leases that this member let expire",
            self.leases_expired.clone(),
        );
    }
}
