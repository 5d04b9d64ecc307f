//! The short form of chaos: a cluster of the store under mixed faults, by fixed seeds and by a fresh one. The long form is
//! a command of the README.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::binary;

/// Long enough for each kind of fault to come about once over all seeds.
const MINUTES: &str = "0.5";

fn chaos(seed: Option<u32>) -> Result<()> {
    let program = binary()?.with_file_name("chaos");
    ensure!(program.is_file(), "{} is not built", program.display());
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.args(["run", "--minutes", MINUTES, "--data-dir"]);
    command.arg(directory.path().join("chaos"));
    command.args(seed.map(|seed| format!("--seed={seed}")));
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
    chaos(Some(1))
}

#[test]
fn nothing_promised_is_broken_under_faults_by_another_fixed_seed() -> Result<()> {
    chaos(Some(2))
}

#[test]
fn nothing_promised_is_broken_under_faults_by_a_fresh_seed() -> Result<()> {
    chaos(None)
}
