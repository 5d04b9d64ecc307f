//! The short form of `chaos rollout`: the leading master is killed in the middle of a rolling update on real nodes.
//! Needs root. The long form is a command of the README.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::{binary, contains};

#[test]
fn a_rolling_update_outlives_the_leading_master() -> Result<()> {
    let program = binary()?.with_file_name("chaos");
    ensure!(program.is_file(), "{} is not built", program.display());
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.args(["rollout", "--runs=1", "--pods=12", "--data-dir"]);
    command.arg(directory.path().join("chaos"));
    // A build without optimizations on a busy machine: how long is the long form's business.
    command.args(["--write-limit=0", "--bind-limit=0"]);
    let output = command.output().context("chaos rollout")?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{why}");
    contains(&said, "each bound once and run once")?;
    contains(&said, ", lost: 0")
}
