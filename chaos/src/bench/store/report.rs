//! Medians of the rounds, as a table that a document can take in as it is.

use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets::ASCII_MARKDOWN};

use super::churn::Churn;
use super::load::Sample;

/// The medians of one case at one server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Per second.
    pub rate: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Of the server, for one operation.
    pub cpu_micros: Option<f64>,
}

impl Figures {
    /// Medians over rounds; the rounds are not empty.
    pub fn of(rounds: &[Sample]) -> Self {
        let percentile = |q: f64| {
            median(
                rounds
                    .iter()
                    .map(|s| s.latency.value_at_quantile(q) as f64 / 1000.0),
            )
        };
        let cpu: Option<Vec<f64>> = rounds
            .iter()
            .map(|s| Some(s.cpu?.as_secs_f64() * 1e6 / s.count.max(1) as f64))
            .collect();
        Self {
            rate: median(
                rounds
                    .iter()
                    .map(|s| s.count as f64 / s.elapsed.as_secs_f64()),
            ),
            p50_ms: percentile(0.5),
            p99_ms: percentile(0.99),
            cpu_micros: cpu.map(|cpu| median(cpu.into_iter())),
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(header);
    table
}

fn row(name: &str, cells: impl IntoIterator<Item = String>) -> Vec<Cell> {
    let cells = cells
        .into_iter()
        .map(|text| Cell::new(text).set_alignment(CellAlignment::Right));
    [Cell::new(name)].into_iter().chain(cells).collect()
}

/// Prints one case: each server, and its ratios to the first.
pub fn print_cases(results: &[(String, Vec<(String, Figures)>)]) {
    let mut table = table([
        "",
        "server",
        "per s",
        "p50 ms",
        "p99 ms",
        "CPU µs each",
        "rate",
        "p99",
        "per CPU second",
    ]);
    for (case, servers) in results {
        let Some((_, base)) = servers.first() else {
            continue;
        };
        for (number, (server, figures)) in servers.iter().enumerate() {
            let times = |ratio: Option<f64>| match ratio {
                Some(ratio) if number > 0 => format!("{ratio:.2}x"),
                _ => String::new(),
            };
            let cpu = base.cpu_micros.zip(figures.cpu_micros);
            let cells = [
                server.clone(),
                format!("{:.0}", figures.rate),
                format!("{:.2}", figures.p50_ms),
                format!("{:.2}", figures.p99_ms),
                figures
                    .cpu_micros
                    .map_or(String::new(), |cpu| format!("{cpu:.1}")),
                times(Some(figures.rate / base.rate)),
                times(Some(figures.p99_ms / base.p99_ms)),
                times(cpu.map(|(theirs, ours)| theirs / ours)),
            ];
            table.add_row(row(case, cells));
        }
    }
    println!("{table}");
}

/// One moment of a server's processes.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    pub resident_bytes: u64,
    /// Share of one core.
    pub cpu: f64,
}

pub fn print_footprints(what: &str, servers: &[(String, Footprint)]) {
    let mut table = table([what, "resident MB", "CPU, % of a core"]);
    for (server, footprint) in servers {
        let cells = [
            format!("{:.1}", footprint.resident_bytes as f64 / 1e6),
            format!("{:.2}", footprint.cpu * 100.0),
        ];
        table.add_row(row(server, cells));
    }
    println!("{table}");
}

pub fn print_churn(servers: &[(String, Churn)]) {
    let mut table = table([
        "churn",
        "updates",
        "per s",
        "stall ms",
        "slowest ms",
        "live MB",
        "history MB",
        "largest MB",
        "largest / (live + history)",
        "at the end MB",
    ]);
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1000.0);
    for (server, churn) in servers {
        let cells = [
            churn.updates.to_string(),
            format!("{:.0}", churn.updates as f64 / churn.elapsed.as_secs_f64()),
            ms(churn.stall),
            ms(churn.slowest),
            mb(churn.live),
            mb(churn.history),
            mb(churn.largest),
            format!(
                "{:.2}",
                churn.largest as f64 / (churn.live + churn.history) as f64
            ),
            mb(churn.last),
        ];
        table.add_row(row(server, cells));
    }
    println!("{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[f64], expect: f64| {
            assert_eq!(median(values.iter().copied()), expect);
        };
        check(&[3.0, 1.0, 2.0], 2.0);
        check(&[4.0, 1.0], 2.5);
        check(&[7.0], 7.0);
    }
}
