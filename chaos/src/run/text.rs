//! A run in a few lines of text.

use super::Run;
use crate::report::Figures;

pub fn print(run: &Run) {
    let figures = Figures::of(run);
    println!(
        "{} calls in {:.0} s, {} without an answer; {} writes; median {:.1} ms, 99th {:.1} ms; {} elections; longest pause of writes {:.1} s",
        figures.calls,
        run.length.as_secs_f64(),
        figures.unknown,
        figures.writes,
        figures.median_ms,
        figures.p99_ms,
        figures.elections,
        figures.longest_pause.as_secs_f64(),
    );
    for why in &run.left_out {
        println!("left out: {why}");
    }
    for verdict in &run.verdicts {
        println!(
            "{:14} {} ({} looked at)",
            verdict.checker,
            verdict.in_words(),
            verdict.looked_at
        );
        for violation in &verdict.violations {
            println!("    {violation}");
        }
    }
}
