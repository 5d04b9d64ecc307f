//! What this front counts beside the store's own metrics: calls by method and code, bytes, checks of health.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raft_store::Store;

use crate::methods::METHODS;

/// gRPC's status codes, by number, as metrics name them.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Counters; clones share the values.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Counters>);

struct Counters {
    started: Vec<AtomicU64>,
    /// By method, then by code.
    handled: Vec<[AtomicU64; CODES.len()]>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    healthy: AtomicU64,
    unhealthy: AtomicU64,
    leader_changes: AtomicU64,
    watch_streams: AtomicU64,
    watchers_refused: AtomicU64,
}

/// A watch stream while it is open.
pub(crate) struct OpenStream(Metrics);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.watch_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Metrics {
    pub fn new(store: &Store) -> Self {
        let metrics = Self(Arc::new(Counters {
            started: METHODS.iter().map(|_| AtomicU64::new(0)).collect(),
            handled: METHODS.iter().map(|_| Default::default()).collect(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            healthy: AtomicU64::new(0),
            unhealthy: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            watch_streams: AtomicU64::new(0),
            watchers_refused: AtomicU64::new(0),
        }));
        metrics.count_leaders(store);
        metrics
    }

    /// Follows who leads until the store or this front is gone.
    fn count_leaders(&self, store: &Store) {
        let mut leadership = store.leadership();
        let counters = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let leader = leadership.borrow_and_update().leader;
                if leader.is_some() && leader != last {
                    last = leader;
                    let Some(counters) = counters.upgrade() else {
                        return;
                    };
                    add(&counters.leader_changes, 1);
                }
                if leadership.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    pub fn started(&self, method: usize) {
        add(&self.0.started[method], 1);
    }

    pub fn handled(&self, method: usize, code: usize) {
        add(&self.0.handled[method][code.min(CODES.len() - 1)], 1);
    }

    pub fn received(&self, bytes: usize) {
        add(&self.0.received_bytes, bytes as u64);
    }

    pub fn sent(&self, bytes: usize) {
        add(&self.0.sent_bytes, bytes as u64);
    }

    /// A watch stream was opened.
    pub fn watch_stream(&self) -> OpenStream {
        add(&self.0.watch_streams, 1);
        OpenStream(self.clone())
    }

    /// Watch streams that are open.
    pub fn watch_streams(&self) -> u64 {
        get(&self.0.watch_streams)
    }

    /// There were too many watchers for one more.
    pub fn watcher_refused(&self) {
        add(&self.0.watchers_refused, 1);
    }

    pub fn checked(&self, healthy: bool) {
        let counter = if healthy {
            &self.0.healthy
        } else {
            &self.0.unhealthy
        };
        add(counter, 1);
    }

    /// Plain counters with their names and help.
    pub fn counters(&self) -> [(&'static str, &'static str, u64); 6] {
        let counters = &self.0;
        [
            (
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes received from gRPC clients",
                get(&counters.received_bytes),
            ),
            (
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes sent to gRPC clients",
                get(&counters.sent_bytes),
            ),
            (
                "etcd_server_health_success",
                "Checks of health that succeeded",
                get(&counters.healthy),
            ),
            (
                "etcd_server_health_failures",
                "Checks of health that failed",
                get(&counters.unhealthy),
            ),
            (
                "etcd_server_leader_changes_seen_total",
                "Leaders that this member has seen",
                get(&counters.leader_changes),
            ),
            (
                "xebec_store_watchers_refused_total",
                "Watchers refused because there were too many",
                get(&counters.watchers_refused),
            ),
        ]
    }

    /// Calls begun, by method.
    pub fn calls_started(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.started.iter().map(get).enumerate()
    }

    /// Calls ended, by method and code, those that occurred.
    pub fn calls_handled(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.0
            .handled
            .iter()
            .enumerate()
            .flat_map(|(method, codes)| {
                let codes = codes.iter().map(get).enumerate();
                codes
                    .filter(|(_, count)| *count > 0)
                    .map(move |(code, count)| (method, code, count))
            })
    }
}
