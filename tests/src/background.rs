//! A program that goes on in the background while a test looks at what it has said so far.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running program; killed when dropped.
pub struct Background {
    name: String,
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Background {
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = BufReader::new(child.stdout.take().context("piped above")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            name,
            child,
            lines,
            said: Vec::new(),
        })
    }

    /// Waits until it says a line with this in it.
    pub fn says(&mut self, part: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(part);
                    self.said.push(line);
                    if found {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{}: no {part:?} within {limit:?}: {:#?}",
                        self.name,
                        self.said
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} ended without {part:?}: {:#?}", self.name, self.said)
                }
            }
        }
    }

    /// What it has said until now.
    pub fn so_far(&mut self) -> &[String] {
        self.said.extend(self.lines.try_iter());
        &self.said
    }

    /// Asks it to end, as a terminal's Ctrl-C, and waits until it has.
    pub fn interrupt(&mut self) -> Result<()> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself; everything it said.
    pub fn ends(mut self, limit: Duration) -> Result<Vec<String>> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} goes on after {limit:?}: {:#?}", self.name, self.said)
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait()?;
        anyhow::ensure!(
            status.success(),
            "{}: {status}: {:#?}",
            self.name,
            self.said
        );
        Ok(std::mem::take(&mut self.said))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
