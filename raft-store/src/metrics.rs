//! Metrics of one store, for whoever serves `/metrics`: etcd's names where the meaning is etcd's, `xebec_store_…` where etcd
//! has nothing of the kind. `docs/metrics.md` says what each means.
//!
//! What changes with every command is counted where it happens, once per batch where that will do; what can be looked up is
//! looked up when the metrics are read ([`crate::Store::metrics`]).

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::ResponseOp;
use crate::command::Outcome;

/// Another member that bytes go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(non_snake_case)]
pub struct ToMember {
    pub To: String,
}

/// Another member that bytes come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(non_snake_case)]
pub struct FromMember {
    pub From: String,
}

type RoundTrips = Family<ToMember, Histogram, fn() -> Histogram>;

/// Handles of all metrics; clones share the values.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub proposals_applied: Counter,
    pub proposals_failed: Counter,
    pub proposals_refused: Counter,
    pub queued_commands: Gauge,
    pub queued_command_bytes: Gauge,
    pub queued_reads: Gauge,
    pub commands_per_entry: Histogram,
    pub command_seconds: Histogram,
    pub fsync_seconds: Histogram,
    pub apply_seconds: Histogram,
    pub commit_seconds: Histogram,
    pub puts: Counter,
    pub deletes: Counter,
    pub ranges: Counter,
    pub txns: Counter,
    pub watchers: Gauge,
    /// Watchers that read history because they are behind.
    pub slow_watchers: Gauge,
    /// Revisions by which the slowest is.
    pub watch_lag: Gauge,
    /// Events that wait for watchers to take them.
    pub pending_events: Gauge,
    pub watch_events: Counter,
    pub watch_overflows: Counter,
    pub leases: Gauge,
    pub leases_granted: Counter,
    pub leases_renewed: Counter,
    pub leases_revoked: Counter,
    pub leases_expired: Counter,
    pub revision: Gauge,
    pub compacted_revision: Gauge,
    pub peer_sent: Family<ToMember, Counter>,
    pub peer_received: Family<FromMember, Counter>,
    pub peer_round_trips: RoundTrips,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            proposals_applied: Counter::default(),
            proposals_failed: Counter::default(),
            proposals_refused: Counter::default(),
            queued_commands: Gauge::default(),
            queued_command_bytes: Gauge::default(),
            queued_reads: Gauge::default(),
            commands_per_entry: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            command_seconds: seconds(),
            fsync_seconds: seconds(),
            apply_seconds: seconds(),
            commit_seconds: seconds(),
            puts: Counter::default(),
            deletes: Counter::default(),
            ranges: Counter::default(),
            txns: Counter::default(),
            watchers: Gauge::default(),
            slow_watchers: Gauge::default(),
            watch_lag: Gauge::default(),
            pending_events: Gauge::default(),
            watch_events: Counter::default(),
            watch_overflows: Counter::default(),
            leases: Gauge::default(),
            leases_granted: Counter::default(),
            leases_renewed: Counter::default(),
            leases_revoked: Counter::default(),
            leases_expired: Counter::default(),
            revision: Gauge::default(),
            compacted_revision: Gauge::default(),
            peer_sent: Family::default(),
            peer_received: Family::default(),
            peer_round_trips: Family::new_with_constructor(seconds),
        }
    }
}

/// One other member's metrics; by default those of nobody.
#[derive(Clone, Debug)]
pub struct PeerMetrics {
    pub sent: Counter,
    pub received: Counter,
    pub round_trips: Histogram,
}

impl Default for PeerMetrics {
    fn default() -> Self {
        Self {
            sent: Counter::default(),
            received: Counter::default(),
            round_trips: seconds(),
        }
    }
}

impl Metrics {
    /// Those of a member, by its id.
    pub fn of_peer(&self, member: u64) -> PeerMetrics {
        let (to, from) = (format!("{member:x}"), format!("{member:x}"));
        PeerMetrics {
            sent: self
                .peer_sent
                .get_or_create_owned(&ToMember { To: to.clone() }),
            received: self
                .peer_received
                .get_or_create_owned(&FromMember { From: from }),
            round_trips: self
                .peer_round_trips
                .get_or_create_owned(&ToMember { To: to }),
        }
    }

    /// A command of a batch was answered this long after it came.
    pub fn note_command(&self, took: Duration) {
        self.command_seconds.observe(took.as_secs_f64());
    }

    /// Counts what applied commands did, as etcd does on every member.
    pub fn note_outcomes<'a, E: 'a>(&self, outcomes: impl Iterator<Item = &'a Result<Outcome, E>>) {
        let mut sum = Operations::default();
        for outcome in outcomes.flatten() {
            match outcome {
                Outcome::Put(_) => sum.puts += 1,
                Outcome::DeleteRange(_) => sum.deletes += 1,
                Outcome::Txn(answer) => {
                    let mut own = Operations::default();
                    own.add(&answer.responses);
                    sum.txns += u64::from(own.puts + own.deletes + own.ranges > 1);
                    sum.puts += own.puts;
                    sum.deletes += own.deletes;
                    sum.ranges += own.ranges;
                }
                _ => {}
            }
        }
        sum.count_in(self);
    }

    /// Counts what a transaction read that was answered without a command.
    pub fn note_read_only(&self, responses: &[ResponseOp]) {
        let mut sum = Operations::default();
        sum.add(responses);
        sum.txns = u64::from(sum.ranges > 1);
        sum.count_in(self);
    }
}

/// Operations by kind.
#[derive(Default)]
struct Operations {
    puts: u64,
    deletes: u64,
    ranges: u64,
    txns: u64,
}

impl Operations {
    fn add(&mut self, responses: &[ResponseOp]) {
        for response in responses {
            match response {
                ResponseOp::Put(_) => self.puts += 1,
                ResponseOp::DeleteRange(_) => self.deletes += 1,
                ResponseOp::Range(_) => self.ranges += 1,
                ResponseOp::Txn(nested) => self.add(&nested.responses),
            }
        }
    }

    fn count_in(&self, metrics: &Metrics) {
        for (counter, count) in [
            (&metrics.puts, self.puts),
            (&metrics.deletes, self.deletes),
            (&metrics.ranges, self.ranges),
            (&metrics.txns, self.txns),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }
}

/// Adds metrics under one prefix.
struct Under<'a>(&'a mut Registry);

impl Under<'_> {
    fn add(&mut self, name: &str, help: &str, metric: &(impl Metric + Clone)) -> &mut Self {
        self.0.register(name, help, metric.clone());
        self
    }

    fn seconds(&mut self, name: &str, help: &str, metric: &(impl Metric + Clone)) -> &mut Self {
        self.0
            .register_with_unit(name, help, Unit::Seconds, metric.clone());
        self
    }
}

impl Metrics {
    /// Adds all metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.register_raft_and_disk(registry);
        self.register_mvcc(registry);
        self.register_own(registry);
    }

    fn register_raft_and_disk(&self, registry: &mut Registry) {
        Under(registry.sub_registry_with_prefix("etcd_server")).add(
            "proposals_failed",
            "Commands that were not decided in time",
            &self.proposals_failed,
        );
        Under(registry.sub_registry_with_prefix("etcd_disk"))
            .seconds(
                "wal_fsync_duration",
                "Time of the log's fdatasync",
                &self.fsync_seconds,
            )
            .seconds(
                "backend_commit_duration",
                "Time to write what was applied into the state's database",
                &self.commit_seconds,
            );
        Under(registry.sub_registry_with_prefix("etcd_network_peer"))
            .add(
                "sent_bytes",
                "Bytes sent to another member",
                &self.peer_sent,
            )
            .add(
                "received_bytes",
                "Bytes received from another member",
                &self.peer_received,
            )
            .seconds(
                "round_trip_time",
                "Time in which another member answers a heartbeat of this leader",
                &self.peer_round_trips,
            );
    }

    fn register_mvcc(&self, registry: &mut Registry) {
        Under(registry.sub_registry_with_prefix("etcd_mvcc"))
            .add("put", "Puts applied here", &self.puts)
            .add("delete", "Deletes of ranges applied here", &self.deletes)
            .add("range", "Ranges read here", &self.ranges)
            .add(
                "txn",
                "Transactions of several operations seen here",
                &self.txns,
            );
        Under(registry.sub_registry_with_prefix("etcd_debugging_mvcc"))
            .add("watcher_total", "Watchers", &self.watchers)
            .add(
                "slow_watcher_total",
                "Watchers that are behind and read history",
                &self.slow_watchers,
            )
            .add(
                "pending_events_total",
                "Events that wait for watchers to take them",
                &self.pending_events,
            )
            .add("events", "Events handed to watchers", &self.watch_events)
            .add("current_revision", "Revision applied", &self.revision)
            .add(
                "compact_revision",
                "Floor of history",
                &self.compacted_revision,
            );
        Under(registry.sub_registry_with_prefix("etcd_debugging_lease"))
            .add("granted", "Leases granted", &self.leases_granted)
            .add(
                "renewed",
                "Leases renewed by this leader",
                &self.leases_renewed,
            )
            .add(
                "revoked",
                "Leases that ended, in whichever way",
                &self.leases_revoked,
            );
        Under(registry.sub_registry_with_prefix("etcd_debugging_server_lease")).add(
            "expired",
            "Leases that this leader let expire",
            &self.leases_expired,
        );
    }

    fn register_own(&self, registry: &mut Registry) {
        Under(registry.sub_registry_with_prefix("xebec_store"))
            .add(
                "commands_applied",
                "Commands applied for callers of this member",
                &self.proposals_applied,
            )
            .add(
                "commands_refused",
                "Commands refused because too many waited",
                &self.proposals_refused,
            )
            .add(
                "queued_commands",
                "Commands that wait for a place in a log entry",
                &self.queued_commands,
            )
            .add(
                "queued_command_bytes",
                "Their bytes",
                &self.queued_command_bytes,
            )
            .add(
                "queued_reads",
                "Linearizable reads that wait for a round",
                &self.queued_reads,
            )
            .add(
                "commands_per_entry",
                "Commands per log entry",
                &self.commands_per_entry,
            )
            .seconds(
                "command_duration",
                "Time from the arrival of an entry's first command to its answer",
                &self.command_seconds,
            )
            .seconds(
                "apply_duration",
                "Time to apply a batch of entries",
                &self.apply_seconds,
            )
            .add(
                "watch_lag_revisions",
                "Revisions by which the slowest watcher is behind",
                &self.watch_lag,
            )
            .add(
                "watch_queue_overflows",
                "Times that a watcher's queue was given up for history",
                &self.watch_overflows,
            )
            .add("leases", "Leases that live", &self.leases);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PutResponse, RangeResponse, TxnResponse};

    #[test]
    fn operations_are_counted_by_kind_also_inside_transactions() {
        let metrics = Metrics::default();
        let put = || PutResponse {
            revision: 2,
            prev_kv: None,
        };
        let nested = TxnResponse {
            revision: 3,
            succeeded: true,
            responses: vec![
                ResponseOp::Put(put()),
                ResponseOp::Range(RangeResponse::default()),
            ],
        };
        let txn = TxnResponse {
            revision: 3,
            succeeded: true,
            responses: vec![ResponseOp::Put(put()), ResponseOp::Txn(nested)],
        };
        let outcomes = [Ok(Outcome::Put(put())), Err(()), Ok(Outcome::Txn(txn))];
        metrics.note_outcomes(outcomes.iter());
        metrics.note_read_only(&[ResponseOp::Range(RangeResponse::default())]);
        let counts = [
            &metrics.puts,
            &metrics.deletes,
            &metrics.ranges,
            &metrics.txns,
        ]
        .map(|counter| counter.get());
        assert_eq!(counts, [3, 0, 2, 1]);
    }

    #[test]
    fn members_have_metrics_of_their_own() {
        let metrics = Metrics::default();
        metrics.of_peer(0xab).sent.inc_by(7);
        metrics.of_peer(0xab).sent.inc_by(1);
        metrics.of_peer(0xcd).received.inc_by(5);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        assert!(
            page.contains("etcd_network_peer_sent_bytes_total{To=\"ab\"} 8\n"),
            "{page}"
        );
        assert!(
            page.contains("etcd_network_peer_received_bytes_total{From=\"cd\"} 5\n"),
            "{page}"
        );
    }
}
