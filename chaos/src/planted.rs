//! `chaos planted`: a server with a bug that was planted on purpose must be caught, each by the checker that exists for
//! it. The server is built with the feature `planted-bugs` and is told the bug by its environment.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::run::{Run, RunArgs, in_one_thread, perform};

/// Bug, faults that bring it out, and who must find it in every run. Others find some of them in most runs: what they see
/// is left to chance.
const BUGS: &[(&str, &str, &[&str])] = &[
    ("acknowledge-before-commit", "kill", &["replay"]),
    ("stale-read", "pause", &["revisions"]),
    ("drop-watch-event", "kill", &["watches"]),
    ("skip-fence", "kill", &["fence"]),
];
const MINUTES: f64 = 0.25;

#[derive(Args, Clone)]
pub struct PlantedArgs {
    /// The server with its bugs, e.g. the example `serve` of etcd-api built with `--features planted-bugs`.
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    #[arg(long, value_name = "DIR", default_value = "chaos-run")]
    data_dir: PathBuf,
    #[arg(long)]
    loopback: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &PlantedArgs) -> Result<()> {
    in_one_thread(all(args))
}

async fn all(args: &PlantedArgs) -> Result<()> {
    let mut missed = Vec::new();
    // Without a bug nothing may be found under the same faults: then what is found below is the bug.
    let schedules: BTreeSet<&str> = BUGS.iter().map(|(_, faults, _)| *faults).collect();
    for faults in schedules {
        let sound = one(args, "", faults).await?;
        if !sound.holds() {
            missed.push(format!(
                "{faults}: something is found though no bug was chosen"
            ));
        }
        println!("{:28} {}", format!("no bug ({faults})"), found(&sound));
    }
    for (bug, faults, checkers) in BUGS {
        let run = one(args, bug, faults).await?;
        println!("{bug:28} {}", found(&run));
        let verdicts = || run.verdicts.iter();
        for checker in *checkers {
            if !verdicts().any(|found| found.checker == *checker && !found.violations.is_empty()) {
                missed.push(format!("{bug} was not found by {checker}"));
            }
        }
    }
    if !missed.is_empty() {
        bail!(missed.join("; "));
    }
    Ok(())
}

async fn one(args: &PlantedArgs, bug: &str, faults: &str) -> Result<Run> {
    let run = RunArgs {
        minutes: MINUTES,
        faults: vec![faults.to_owned()],
        program: Some(args.program.clone()),
        data_dir: args.data_dir.clone(),
        loopback: args.loopback,
        environment: match bug {
            "" => Vec::new(),
            bug => vec![("XEBEC_PLANTED_BUG".to_owned(), bug.to_owned())],
        },
        ..RunArgs::default()
    };
    perform(&run, args.seed).await
}

fn found(run: &Run) -> String {
    let violated = run
        .verdicts
        .iter()
        .filter(|verdict| !verdict.violations.is_empty());
    let named: Vec<&str> = violated.map(|verdict| verdict.checker).collect();
    match named.is_empty() {
        true => "nothing is found".to_owned(),
        false => format!("found by {}", named.join(", ")),
    }
}
