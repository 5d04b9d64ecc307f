//! The real kubectl, in every version that is to be had.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::{Output, cache, run};

/// One kubectl that talks to one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn new(program: impl Into<PathBuf>, kubeconfig: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            kubeconfig: kubeconfig.into(),
        }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that is not started yet.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env_remove("KUBECTL_COMMAND_HEADERS");
        command.args(split(arguments));
        command
    }

    /// Runs to the end, whatever it is.
    pub fn try_run(&self, arguments: &str, input: &str) -> Result<Output> {
        run(&mut self.command(arguments), input)
    }

    /// Runs; a failure is an error that shows the command and what it said.
    pub fn run(&self, arguments: &str) -> Result<String> {
        self.run_with(arguments, "")
    }

    pub fn run_with(&self, arguments: &str, input: &str) -> Result<String> {
        let answer = self.try_run(arguments, input)?.ok();
        answer.map_err(|error| error.context(format!("kubectl {arguments}")))
    }

    /// Runs what must fail; answers what it said on standard error.
    pub fn fail(&self, arguments: &str, input: &str) -> Result<String> {
        let output = self.try_run(arguments, input)?;
        anyhow::ensure!(
            !output.success,
            "kubectl {arguments} did not fail: {}",
            output.stdout
        );
        Ok(output.stderr)
    }
}

/// Splits at blanks; single quotes keep a part together.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The kubectls of this machine: 1.33 where the PATH has it, and the newest that the test setup has installed.
pub fn kubectls() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |name: &str| {
        std::env::split_paths(&path)
            .flat_map(|dir| {
                let direct = dir.join(name);
                // A versioned kubectl may lie beside the target of a link.
                let beside = std::fs::canonicalize(dir.join("kubectl"))
                    .ok()
                    .and_then(|p| Some(p.parent()?.join(name)));
                [Some(direct), beside]
            })
            .flatten()
            .find(|p| p.is_file())
    };
    found.extend(on_path("kubectl.1.33"));
    let installed = cache().and_then(|cache| std::fs::read_dir(cache.join("kubectl")).ok());
    let mut newest: Vec<_> = installed
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    newest.sort();
    found.extend(newest.pop());
    if found.is_empty() {
        found.extend(on_path("kubectl"));
    }
    found
}
