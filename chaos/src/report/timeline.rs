//! The timeline as a drawing: throughput, latency, who led and what was done to whom, second by second.

use std::fmt::Write;

use super::page::escape;
use super::{Figures, MS};
use crate::run::Run;

const LEFT: f64 = 44.0;
const STRIP: f64 = 22.0;
const CHART: f64 = 110.0;
const GAP: f64 = 26.0;
/// Pixels; a long run is scrolled.
const MIN_WIDTH: f64 = 640.0;
const PER_SECOND: f64 = 4.0;
const MAX_WIDTH: f64 = 4000.0;
/// One for each member, told apart by colour-blind eyes as well.
const COLOURS: [&str; 5] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"];

/// Calls that ended in one second.
#[derive(Default, Clone)]
struct Second {
    answered: usize,
    latencies: Vec<u64>,
}

struct Drawing<'a> {
    out: &'a mut String,
    seconds: f64,
    width: f64,
    y: f64,
}

impl Drawing<'_> {
    fn x(&self, second: f64) -> f64 {
        LEFT + (self.width - LEFT) * (second / self.seconds).min(1.0)
    }

    fn bar(&mut self, from: f64, to: f64, y: f64, height: f64, fill: &str, title: &str) {
        let (x, end) = (self.x(from), self.x(to));
        let _ = write!(
            self.out,
            "<rect x={x:.1} y={y:.1} width={:.1} height={height:.1} fill=\"{fill}\"><title>{}</title></rect>",
            (end - x).max(0.5),
            escape(title)
        );
    }

    fn text(&mut self, x: f64, y: f64, text: &str) {
        let _ = write!(self.out, "<text x={x:.1} y={y:.1}>{}</text>", escape(text));
    }

    /// A bar per second, and a scale.
    fn chart(&mut self, name: &str, values: &[f64], fill: &str, unit: &str) {
        let top = values.iter().copied().fold(1.0, f64::max);
        self.y += GAP;
        self.text(
            0.0,
            self.y - 8.0,
            &format!("{name} (up to {top:.0} {unit})"),
        );
        let base = self.y + CHART;
        for (second, value) in values.iter().enumerate() {
            let height = CHART * value / top;
            let from = second as f64;
            let title = format!("{from:.0} s: {value:.1} {unit}");
            self.bar(from, from + 0.9, base - height, height, fill, &title);
        }
        self.y = base;
    }
}

pub fn draw(out: &mut String, run: &Run, figures: &Figures) {
    let seconds = run.length.as_secs_f64().max(1.0);
    let width = (seconds * PER_SECOND).clamp(MIN_WIDTH, MAX_WIDTH);
    let height = 2.0 * (CHART + GAP) + 3.0 * (STRIP + GAP) + GAP;
    let _ = write!(
        out,
        "<svg width={width:.0} height={height:.0} role=img aria-label=\"timeline\">"
    );
    let mut drawing = Drawing {
        out,
        seconds,
        width,
        y: 0.0,
    };
    let by_second = by_second(run);
    let rates: Vec<f64> = by_second
        .iter()
        .map(|second| second.answered as f64)
        .collect();
    let tails: Vec<f64> = by_second.iter().map(tail).collect();
    let from = figures.pause_from.as_secs_f64();
    let to = from + figures.longest_pause.as_secs_f64();
    let title = format!("no write was acknowledged for {:.1} s", to - from);
    drawing.bar(from, to, GAP, CHART, "#cc333355", &title);
    drawing.chart("answers per second", &rates, "#0072b2", "/s");
    drawing.chart("99th percentile of latency", &tails, "#e69f00", "ms");
    leaders(&mut drawing, run);
    faults(&mut drawing, run);
    axis(&mut drawing);
    *out += "</svg>";
}

fn by_second(run: &Run) -> Vec<Second> {
    let mut seconds = vec![Second::default(); run.length.as_secs() as usize + 1];
    for operation in &run.history.operations {
        let at = (operation.done / 1_000_000_000) as usize;
        if let (Some(second), true) = (seconds.get_mut(at), operation.answered().is_some()) {
            second.answered += 1;
            second.latencies.push(operation.done - operation.invoke);
        }
    }
    for second in &mut seconds {
        second.latencies.sort_unstable();
    }
    seconds
}

fn tail(second: &Second) -> f64 {
    let place = second.latencies.len() * 99 / 100;
    second
        .latencies
        .get(place)
        .map_or(0.0, |nanos| *nanos as f64 / MS)
}

fn leaders(drawing: &mut Drawing, run: &Run) {
    drawing.y += GAP;
    let y = drawing.y;
    drawing.text(0.0, y - 8.0, "leader");
    let looks = &run.observed.looks;
    for (number, look) in looks.iter().enumerate() {
        let end = looks.get(number + 1).map_or(run.length, |next| next.at);
        let Some(leader) = look.leader else { continue };
        let title = format!("m{leader} in term {}", look.term);
        let colour = COLOURS[leader % COLOURS.len()];
        drawing.bar(
            look.at.as_secs_f64(),
            end.as_secs_f64(),
            y,
            STRIP,
            colour,
            &title,
        );
    }
    for member in 0..run.members {
        let x = LEFT + 60.0 * member as f64;
        let _ = write!(
            drawing.out,
            "<rect x={x} y={:.1} width=10 height=10 fill=\"{}\"/>",
            y - 17.0,
            COLOURS[member % COLOURS.len()]
        );
        drawing.text(x + 14.0, y - 8.0, &format!("m{member}"));
    }
    drawing.y += STRIP;
}

fn faults(drawing: &mut Drawing, run: &Run) {
    drawing.y += GAP;
    let y = drawing.y;
    drawing.text(0.0, y - 8.0, "faults");
    for note in &run.observed.notes {
        let (from, to) = (note.from.as_secs_f64(), note.to.as_secs_f64());
        drawing.bar(from, to, y, STRIP, "#b3261e99", &note.text);
    }
    drawing.y += STRIP;
}

fn axis(drawing: &mut Drawing) {
    // About one mark per hundred pixels, at round seconds.
    let marks = (drawing.width / 100.0).max(1.0);
    let step = [5.0, 10.0, 30.0, 60.0, 120.0, 300.0]
        .into_iter()
        .find(|step| drawing.seconds / step <= marks)
        .unwrap_or(600.0);
    let y = drawing.y + 18.0;
    let mut second = 0.0;
    while second <= drawing.seconds {
        let x = drawing.x(second);
        drawing.text(x, y, &format!("{second:.0} s"));
        second += step;
    }
}
