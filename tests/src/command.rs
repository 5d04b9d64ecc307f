//! Running a program to its end, with its output as text; and where installed programs are.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output of a success; standard error as the error otherwise.
    pub fn ok(self) -> Result<String> {
        if !self.success {
            bail!("{}{}", self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

/// Runs the command with `input` on its standard input.
pub fn run(command: &mut Command, input: &str) -> Result<Output> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut stdin = child.stdin.take().context("piped above")?;
    let input = input.to_owned();
    // In a thread of its own: a program may write much before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for {name}"))?;
    drop(writer.join());
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Looks for a part of a text; the error shows both.
pub fn contains(text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "expected {part:?} in:\n{text}");
    Ok(())
}

/// Where the test setup keeps what it has installed.
pub(crate) fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Some(cache?.join("xebec"))
}
