//! One measurement: many workers, a fixed number of operations, a row of results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use hdrhistogram::Histogram;

use super::connection::Connection;
use super::cpu;

/// What one measurement found.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    pub operations: usize,
    pub elapsed: Duration,
    /// Of the server's processes.
    pub cpu: Option<Duration>,
    pub latency: Option<Histogram<u64>>,
    /// Upstream's figures on a like machine: operations per second, CPU milliseconds per operation; 0 where unknown.
    pub upstream: (f64, f64),
}

impl Row {
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// Milliseconds of the server's CPU time per operation.
    pub fn cpu_ms(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() * 1000.0 / self.operations.max(1) as f64)
    }
}

/// Runs `operation` for each number below `operations`, spread over `workers` that share the connections.
pub async fn run_all<F, Fut>(
    connections: &[Connection],
    workers: usize,
    operations: usize,
    operation: F,
) -> Result<Histogram<u64>>
where
    F: Fn(Connection, usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let operation = Arc::new(operation);
    let tasks: Vec<_> = (0..workers)
        .map(|worker| {
            let connection = connections[worker % connections.len()].clone();
            let (next, operation) = (next.clone(), operation.clone());
            tokio::spawn(async move {
                let mut latency = Histogram::<u64>::new(3)?;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= operations {
                        return anyhow::Ok(latency);
                    }
                    let start = Instant::now();
                    operation(connection.clone(), number).await?;
                    latency.record(start.elapsed().as_micros() as u64)?;
                }
            })
        })
        .collect();
    let mut latency = Histogram::<u64>::new(3)?;
    for task in tasks {
        latency.add(task.await??)?;
    }
    Ok(latency)
}

/// The time and the server's CPU time that `work` takes.
pub async fn timed<T>(
    pids: &[u32],
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Duration, Option<Duration>)> {
    let before = cpu::cpu_time(pids)?;
    let start = Instant::now();
    let value = work.await?;
    let elapsed = start.elapsed();
    let used = cpu::cpu_time(pids)?.saturating_sub(before);
    Ok((value, elapsed, (!pids.is_empty()).then_some(used)))
}

/// A figure of upstream's, unless it is not known.
fn known(figure: f64) -> Option<f64> {
    Some(figure).filter(|f| *f > 0.0)
}

/// Prints all rows with their setting.
pub fn print(setting: &str, rows: &[Row]) {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header([
        "",
        "ops",
        "ops/s",
        "p50 ms",
        "p99 ms",
        "CPU ms/op",
        "upstream ops/s",
        "rate",
        "ops per CPU",
    ]);
    for row in rows {
        let percentile = |q: f64| match &row.latency {
            Some(latency) => format!("{:.2}", latency.value_at_quantile(q) as f64 / 1000.0),
            None => String::new(),
        };
        let ratio = |ours: Option<f64>| ours.map(|r| format!("{r:.2}x")).unwrap_or_default();
        let cells = [
            row.operations.to_string(),
            format!("{:.0}", row.rate()),
            percentile(0.5),
            percentile(0.99),
            row.cpu_ms()
                .map(|ms| format!("{ms:.3}"))
                .unwrap_or_default(),
            known(row.upstream.0)
                .map(|rate| format!("{rate:.0}"))
                .unwrap_or_default(),
            ratio(known(row.upstream.0).map(|rate| row.rate() / rate)),
            ratio(
                known(row.upstream.1)
                    .zip(row.cpu_ms())
                    .map(|(theirs, ours)| theirs / ours),
            ),
        ];
        let cells = cells.map(|text| Cell::new(text).set_alignment(CellAlignment::Right));
        table.add_row([Cell::new(row.name)].into_iter().chain(cells));
    }
    println!("{setting}\n{table}");
}
