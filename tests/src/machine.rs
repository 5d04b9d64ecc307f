//! Hosts with a server or an agent that runs real containers, and what one asks of a cluster of them. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{ANY_DISK, binary, clean_data_in, provide_images};
use crate::command::run;
use crate::hosts::Host;
use crate::kubectl::{Kubectl, kubectls};
use crate::process::Process;
use crate::wait::eventually;

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(90);

/// A host with a process of ours and its data. Containers are cleared away when it is dropped.
pub struct Machine {
    pub process: Option<Process>,
    pub arguments: Vec<String>,
    directory: tempfile::TempDir,
    pub host: Host,
}

impl Machine {
    /// Starts `xebec server` or `xebec agent`, with a node of this name.
    pub fn start(host: Host, role: &str, name: &str, flags: &[String]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("xebec-test-").tempdir()?;
        provide_images(directory.path())?;
        let mut arguments = vec![
            role.to_owned(),
            format!("--data-dir={}", directory.path().display()),
            format!("--node-name={name}"),
            format!("--node-ip={}", host.address),
            ANY_DISK.to_owned(),
        ];
        arguments.extend(flags.iter().cloned());
        let mut machine = Self {
            process: None,
            arguments,
            directory,
            host,
        };
        machine.spawn()?;
        Ok(machine)
    }

    pub fn spawn(&mut self) -> Result<()> {
        let log = self.directory.path().join("log");
        let mut command = self.host.command(binary()?);
        self.process = Some(Process::start(command.args(&self.arguments), &log)?);
        Ok(())
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("not running")?.kill()
    }

    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("server/admin.kubeconfig")
    }

    /// The newest kubectl with this master's kubeconfig, as soon as the master has written that.
    pub fn kubectl(&mut self) -> Result<Kubectl> {
        let kubeconfig = self.kubeconfig();
        eventually("the admin kubeconfig is written", PATIENCE, || {
            let process = self.process.as_mut().context("not running")?;
            if let Some(status) = process.ended()? {
                bail!("xebec ended with {status}: {}", process.tail());
            }
            ensure!(kubeconfig.is_file());
            Ok(())
        })?;
        let program = kubectls().into_iter().next_back().context("no kubectl")?;
        Ok(Kubectl::new(program, kubeconfig))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(process) = self.process.take()
            && let Err(error) = process.stop()
        {
            eprintln!("stopping: {error:#}");
        }
        clean_data_in(&self.host, self.directory.path());
    }
}

/// `xebec token …` against the cluster.
pub fn token(kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
    xebec(kubeconfig, &[&["token"], arguments].concat())
}

/// `xebec …` against the cluster.
pub fn xebec(kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary()?);
    command
        .args(arguments)
        .arg(format!("--kubeconfig={}", kubeconfig.display()));
    run(&mut command, "")?.ok()
}

/// Waits until so many nodes are Ready.
pub fn ready_nodes(kubectl: &Kubectl, wanted: usize) -> Result<()> {
    eventually("the nodes are Ready", PATIENCE, || {
        let nodes = kubectl.run("get nodes --no-headers")?;
        let ready = nodes.lines().filter(|line| line.contains(" Ready "));
        ensure!(ready.count() == wanted, "{nodes}");
        Ok(())
    })
}
