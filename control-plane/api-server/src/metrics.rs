//! The API server's own metrics, under Kubernetes' names.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::audit::AuditCounters;

/// Upper bounds of the latency histogram, in seconds.
const LATENCY_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct VerbLabels {
    pub verb: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    request_kind: &'static str,
}

/// Counters and their registry.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<VerbLabels, Histogram>,
    inflight: Family<KindLabels, Gauge<i64, AtomicI64>>,
    pub watchers: Gauge<i64, AtomicI64>,
    pub audit: AuditCounters,
}

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register(
            "apiserver_request",
            "Requests by verb, resource and status code",
            requests.clone(),
        );
        let make: fn() -> Histogram = latency;
        let latency = Family::<VerbLabels, Histogram>::new_with_constructor(make);
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to answer, by verb",
            latency.clone(),
        );
        let inflight = Family::default();
        registry.register(
            "apiserver_current_inqueue_requests",
            "Requests that wait for their turn",
            Family::clone(&inflight),
        );
        let watchers = Gauge::default();
        registry.register(
            "apiserver_longrunning_requests",
            "Watches that are open",
            Gauge::clone(&watchers),
        );
        let audit = AuditCounters::default();
        registry.register(
            "apiserver_audit_event",
            "Events of the audit log",
            audit.events.clone(),
        );
        registry.register(
            "apiserver_audit_error",
            "Events of the audit log that were lost",
            audit.errors.clone(),
        );
        Self {
            audit,
            registry,
            requests,
            latency,
            inflight,
            watchers,
        }
    }
}

impl Metrics {
    pub fn count(&self, labels: RequestLabels, took: Duration) {
        if labels.verb != "watch" {
            self.latency
                .get_or_create(&VerbLabels { verb: labels.verb })
                .observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&labels).inc();
    }

    /// All metrics as text; `waiting` reads and writes.
    pub fn text(&self, waiting: (usize, usize)) -> String {
        for (request_kind, count) in [("readOnly", waiting.0), ("mutating", waiting.1)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.inflight
                .get_or_create(&KindLabels { request_kind })
                .set(count);
        }
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }
}
