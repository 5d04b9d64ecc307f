//! One member of the store as a process: started, stopped by signal, started again, wiped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// What a member is started with.
pub struct Member {
    /// Its name, new each time that it is added again.
    pub name: String,
    /// Data, log and what faults leave for it lie here.
    pub folder: PathBuf,
    /// What its program is told.
    pub arguments: Vec<String>,
    /// What it may be told by environment.
    pub environment: Vec<(String, String)>,
    /// It runs the newer program, if there is one.
    pub upgraded: bool,
    process: Option<Child>,
}

impl Member {
    pub fn new(name: String, folder: PathBuf) -> Self {
        Self {
            name,
            folder,
            arguments: Vec::new(),
            environment: Vec::new(),
            upgraded: false,
            process: None,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data").join(&self.name)
    }

    /// Milliseconds that its fsync is delayed by, as the shim reads them.
    pub fn delay_file(&self) -> PathBuf {
        self.folder.join("fsync-delay")
    }

    /// How wrong its clock is, as the shim reads it.
    pub fn clock_file(&self) -> PathBuf {
        self.folder.join("clock-offset")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// `command` runs the program where the member belongs.
    pub fn start(&mut self, mut command: Command, program: &Path) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.process = Some(child.with_context(|| format!("cannot start {}", program.display()))?);
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(id) = self.process.as_ref().and_then(Child::id) else {
            // It has ended, or was killed by another fault.
            return Ok(());
        };
        kill(Pid::from_raw(i32::try_from(id)?), signal).context("signal")
    }

    /// Whether it was started and has not ended since.
    pub fn runs(&mut self) -> Result<bool> {
        match &mut self.process {
            Some(process) => Ok(process.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// kill -9.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.wait().await?;
        }
        Ok(())
    }
}
