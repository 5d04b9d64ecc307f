//! The short form of chaos, four minutes in all: members of the store under mixed faults by fixed seeds and by a fresh
//! one, and whole masters by a fixed one; leaders of the store that are killed; members that lose power; and proof that the
//! checkers find bugs. The long forms are commands of the README.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::{binary, contains};

/// `chaos COMMAND FLAGS`: what it says.
fn said(command: &str, flags: &[&str]) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let mut chaos = Command::new(built("chaos")?);
    chaos.args([command, "--data-dir"]);
    chaos.arg(directory.path().join("chaos")).args(flags);
    let output = chaos.output().context("chaos")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // A fresh seed is known from this alone.
    println!("{said}");
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{why}");
    Ok(said)
}

/// A program beside the binary.
fn built(name: &str) -> Result<PathBuf> {
    let program = binary()?.with_file_name(name);
    ensure!(program.is_file(), "{} is not built", program.display());
    Ok(program)
}

fn chaos(flags: &[&str]) -> Result<()> {
    let said = said("run", &[&["--minutes=0.75"], flags].concat())?;
    contains(&said, "linearizable   holds")
}

/// The checkers are worth something: in a store with a bug, each that exists for that bug finds it, and none finds
/// anything without one. `scripts/build-planted-bugs.sh` builds that store.
#[test]
fn every_planted_bug_is_found() -> Result<()> {
    let store = format!("--program={}", built("planted-bugs")?.display());
    let said = said("planted", &[&store])?;
    ensure!(said.matches("nothing is found").count() == 2, "{said}");
    ensure!(said.matches("found by ").count() == 4, "{said}");
    Ok(())
}

#[test]
fn nothing_promised_is_broken_under_faults_by_a_fixed_seed() -> Result<()> {
    chaos(&["--seed=1"])
}

#[test]
fn nothing_promised_is_broken_under_faults_by_a_fresh_seed() -> Result<()> {
    chaos(&[])
}

#[test]
fn nothing_promised_is_broken_under_faults_by_another_fixed_seed() -> Result<()> {
    chaos(&["--seed=2"])
}

#[test]
fn whole_masters_keep_their_promises_under_faults() -> Result<()> {
    // Fewer calls: a master has more to do for each.
    chaos(&[
        "--level=cluster",
        "--seed=1",
        "--rate=40",
        "--faults=kill,pause,isolate,clock",
    ])
}

/// How long writes stand still is a matter of the machine, and judged by the long form.
#[test]
fn nothing_is_lost_with_leaders_that_are_killed_and_time_goes_forwards() -> Result<()> {
    let flags = ["--level=store", "--runs=2", "--write-limit=0"];
    let said = said("failover", &flags)?;
    contains(&said, "2 runs")?;
    for checker in ["linearizable", "replay", "revisions", "watches"] {
        contains(&said, &format!("{checker:14} holds"))?;
    }
    Ok(())
}

#[test]
fn a_loss_of_power_at_any_moment_loses_nothing_acknowledged() -> Result<()> {
    let said = said("power-loss", &["--points=40", "--transfer-points=8"])?;
    contains(&said, "40 losses of power")?;
    contains(&said, "8 losses of power of a member")
}
