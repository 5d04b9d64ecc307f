//! What a run was like, in figures and as one page that needs nothing else.

mod page;
mod timeline;

use std::time::Duration;

use crate::history::{Nanos, Outcome};
use crate::run::Run;

pub use page::page;

pub struct Figures {
    pub calls: usize,
    pub unknown: usize,
    pub writes: usize,
    pub median_ms: f64,
    pub p99_ms: f64,
    pub elections: usize,
    /// The longest time in which no write was acknowledged, and when it began.
    pub longest_pause: Duration,
    pub pause_from: Duration,
}

const MS: f64 = 1e6;

impl Figures {
    pub fn of(run: &Run) -> Self {
        let operations = &run.history.operations;
        let unknown = operations
            .iter()
            .filter(|operation| matches!(operation.outcome, Outcome::Unknown { .. }));
        let unknown = unknown.count();
        let mut latencies: Vec<Nanos> = Vec::new();
        let mut writes: Vec<Nanos> = Vec::new();
        for operation in operations {
            if operation.answered().is_some() {
                latencies.push(operation.done - operation.invoke);
            }
            if operation.wrote() {
                writes.push(operation.done);
            }
        }
        latencies.sort_unstable();
        writes.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            latencies.get(place).map_or(0.0, |nanos| *nanos as f64 / MS)
        };
        let pauses = writes.iter().zip(writes.iter().skip(1));
        let (pause, from) = pauses.map(|(a, b)| (b - a, *a)).max().unwrap_or((0, 0));
        let terms: std::collections::BTreeSet<u64> =
            run.observed.looks.iter().map(|look| look.term).collect();
        Self {
            calls: operations.len(),
            unknown,
            writes: writes.len(),
            median_ms: at(0.5),
            p99_ms: at(0.99),
            elections: terms.len().saturating_sub(1),
            longest_pause: Duration::from_nanos(pause),
            pause_from: Duration::from_nanos(from),
        }
    }
}
