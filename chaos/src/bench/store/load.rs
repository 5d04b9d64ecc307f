//! Load: clients that each send their next request when the last is answered (closed loop), or at given times (open loop).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::server::Server;
use super::wire::Wire;
use crate::bench::cpu;

/// What one round measured.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Operations, or whatever the case counts.
    pub count: u64,
    pub elapsed: Duration,
    /// Of the server's processes; none if they run elsewhere.
    pub cpu: Option<Duration>,
    /// Microseconds.
    pub latency: Histogram<u64>,
}

/// Counts what a round does; shared by its clients, all on one thread.
#[derive(Clone)]
pub struct Tally(Rc<RefCell<Histogram<u64>>>);

impl Tally {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(empty())))
    }

    fn record(&self, latency: Duration) {
        // Saturating: an hour is not exceeded.
        self.0
            .borrow_mut()
            .saturating_record(latency.as_micros() as u64);
    }

    fn take(self) -> Histogram<u64> {
        self.0.replace(empty())
    }
}

fn empty() -> Histogram<u64> {
    const LONGEST_MICROS: u64 = 3_600_000_000;
    Histogram::new_with_max(LONGEST_MICROS, 3).expect("three digits are allowed")
}

/// When a round ends and, in an open loop, when its requests are due.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub duration: Duration,
    /// Requests per second of all clients together; none: as fast as the answers come.
    pub rate: Option<f64>,
}

/// Runs `operation(wire, n)` by `workers` that share the connections; n counts the round's operations.
pub async fn run<F, Fut>(
    server: &Server,
    wires: &[Wire],
    workers: usize,
    pace: Pace,
    operation: F,
) -> Result<Sample>
where
    F: Fn(Wire, u64) -> Fut + 'static,
    Fut: Future<Output = Result<()>> + 'static,
{
    let operation = Rc::new(operation);
    let next = Rc::new(Cell::new(0));
    let tally = Tally::new();
    let before = cpu::cpu_time(&server.pids)?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let wire = wires[worker % wires.len()].clone();
        let work = work(
            wire,
            start,
            pace,
            next.clone(),
            tally.clone(),
            operation.clone(),
        );
        tasks.spawn_local(work);
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let elapsed = start.elapsed();
    let latency = tally.take();
    Ok(Sample {
        count: latency.len(),
        elapsed,
        cpu: used(server, before)?,
        latency,
    })
}

/// CPU time of the server since `before`.
pub fn used(server: &Server, before: Duration) -> Result<Option<Duration>> {
    let used = cpu::cpu_time(&server.pids)?.saturating_sub(before);
    Ok((!server.pids.is_empty()).then_some(used))
}

async fn work<F, Fut>(
    wire: Wire,
    start: Instant,
    pace: Pace,
    next: Rc<Cell<u64>>,
    tally: Tally,
    operation: Rc<F>,
) -> Result<()>
where
    F: Fn(Wire, u64) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    loop {
        let number = next.replace(next.get() + 1);
        let mut begun = Instant::now();
        if let Some(rate) = pace.rate {
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            if due.duration_since(start) >= pace.duration {
                return Ok(());
            }
            if begun < due {
                // The timer's own lateness is not the server's.
                sleep_until(due).await;
                begun = Instant::now();
            } else {
                // Sent late because all clients were waiting: that counts.
                begun = due;
            }
        } else if begun.duration_since(start) >= pace.duration {
            return Ok(());
        }
        operation(wire.clone(), number).await?;
        tally.record(begun.elapsed());
    }
}
