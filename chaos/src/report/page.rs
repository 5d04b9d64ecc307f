//! The report: one HTML page without scripts, fonts or images from elsewhere; readable on a phone.

use std::fmt::Write;

use super::{Figures, timeline};
use crate::run::Run;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#667;--paper:#fff;--line:#d5d9df;--good:#187a3c;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa3ad;--paper:#14171a;--line:#333a42;--good:#5fd38d;--bad:#ff8a80}}
body{font:16px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;padding:1rem;max-width:70rem}
h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}
.good{color:var(--good)}.bad{color:var(--bad)}.soft{color:var(--soft)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem}
.figures div{border:1px solid var(--line);border-radius:.5rem;padding:.5rem .7rem}
.figures b{display:block;font-size:1.25rem}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem}
svg{display:block}svg text{fill:var(--soft);font:11px system-ui,sans-serif}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .5rem;border-top:1px solid var(--line)}
code,pre{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}
";

/// `command` runs the same schedule again.
pub fn page(run: &Run, command: &str) -> String {
    let figures = Figures::of(run);
    let (class, verdict) = match run.holds() {
        true => ("good", "Everything holds"),
        false => ("bad", "What was promised does not hold"),
    };
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>chaos: seed {seed}</title><style>{STYLE}</style>\
         <h1 class={class}>{verdict}</h1><p class=soft>{members} members, seed {seed}, {length:.0} s</p>",
        seed = run.seed,
        members = run.members,
        length = run.length.as_secs_f64(),
    );
    numbers(&mut out, &figures);
    out += "<h2>Timeline</h2><div class=wide>";
    timeline::draw(&mut out, run, &figures);
    out += "</div>";
    verdicts(&mut out, run);
    faults(&mut out, run);
    let _ = write!(
        out,
        "<h2>Run it again</h2><pre>{}</pre></html>",
        escape(command)
    );
    out
}

fn numbers(out: &mut String, figures: &Figures) {
    let pause = figures.longest_pause.as_secs_f64();
    let shown = [
        ("longest pause of writes", format!("{pause:.1} s")),
        (
            "it began at",
            format!("{:.1} s", figures.pause_from.as_secs_f64()),
        ),
        ("calls", figures.calls.to_string()),
        ("acknowledged writes", figures.writes.to_string()),
        ("without an answer", figures.unknown.to_string()),
        ("median latency", format!("{:.1} ms", figures.median_ms)),
        ("99th percentile", format!("{:.1} ms", figures.p99_ms)),
        ("elections", figures.elections.to_string()),
    ];
    *out += "<div class=figures>";
    for (name, value) in shown {
        let _ = write!(
            out,
            "<div><b>{value}</b><span class=soft>{name}</span></div>"
        );
    }
    *out += "</div>";
}

fn verdicts(out: &mut String, run: &Run) {
    *out += "<h2>Verdict</h2><table>";
    for verdict in &run.verdicts {
        let class = if verdict.violations.is_empty() {
            "good"
        } else {
            "bad"
        };
        let _ = write!(
            out,
            "<tr><td><b>{}</b><td class={class}>{}<td>{}<span class=soft> · {} looked at</span>",
            verdict.checker,
            verdict.in_words(),
            verdict.promise,
            verdict.looked_at
        );
        for violation in &verdict.violations {
            let _ = write!(out, "<pre>{}</pre>", escape(violation));
        }
    }
    *out += "</table>";
}

fn faults(out: &mut String, run: &Run) {
    *out += "<h2>What was done</h2><table><tr><th>from<th>to<th>fault, target, members";
    for note in &run.observed.notes {
        let (from, to) = (note.from.as_secs_f64(), note.to.as_secs_f64());
        let _ = write!(
            out,
            "<tr><td>{from:.1} s<td>{to:.1} s<td>{}",
            escape(&note.text)
        );
    }
    *out += "</table>";
    for why in &run.left_out {
        let _ = write!(out, "<p class=soft>Left out: {}</p>", escape(why));
    }
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
