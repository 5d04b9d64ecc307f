//! The short form of chaos, three minutes in all: members of the store under mixed faults by fixed seeds and by a fresh
//! one, and whole masters by a fixed one. The long forms are commands of the README.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::binary;

fn chaos(flags: &[&str]) -> Result<()> {
    let program = binary()?.with_file_name("chaos");
    ensure!(program.is_file(), "{} is not built", program.display());
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.args(["run", "--minutes=0.75", "--data-dir"]);
    command.arg(directory.path().join("chaos")).args(flags);
    let output = command.output().context("chaos run")?;
    let said = String::from_utf8_lossy(&output.stdout);
    // A fresh seed is known from this alone.
    println!("{said}");
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{why}");
    ensure!(said.contains("linearizable   holds"), "{said}");
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
