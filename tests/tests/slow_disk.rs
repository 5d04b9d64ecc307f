//! Three members whose disks are slow: `chaos slow-disk` in a short form. It judges by itself.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::{binary, run};

/// Seconds that each delay lasts.
const STEP: &str = "2";

#[test]
fn members_with_slow_disks_refuse_nothing_and_lose_nothing() -> Result<()> {
    let xebec = binary()?;
    let built = xebec.parent().context("the binary lies in a folder")?;
    let (chaos, shim) = (built.join("chaos"), built.join("libslow_fsync.so"));
    for file in [&chaos, &shim] {
        ensure!(
            file.is_file(),
            "{} is missing: cargo build --workspace --lib --bins",
            file.display()
        );
    }
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(chaos);
    command
        .args([
            "slow-disk",
            "--members=3",
            "--clients=10",
            "--seconds",
            STEP,
        ])
        .arg(format!("--start=xebec={}", xebec.display()))
        .arg(format!("--shim={}", shim.display()))
        .arg(format!("--data-dir={}", directory.path().display()));
    let said = run(&mut command, "")?.ok()?;
    ensure!(said.contains("after the disk is well again"), "{said}");
    Ok(())
}
