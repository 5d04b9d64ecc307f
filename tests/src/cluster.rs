//! A cluster of real processes in a directory of its own, on ports of its own.
//!
//! Addresses: whole clusters with nodes use the machine's address and so run one at a time (nextest group `node`);
//! control planes without a node use loopback and may run side by side.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::hosts::Host;
use crate::kubectl::{Kubectl, kubectls};
use crate::process::{Process, tail};
use crate::wait::eventually;

/// How long a first start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Lets a node run pods however full the machine's disk is, which is not what tests judge.
pub(crate) const ANY_DISK: &str = "--eviction-hard=memory.available<100Mi";

/// One server, stopped and cleaned when dropped.
pub struct Cluster {
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    port: u16,
    with_node: bool,
    server: Option<Process>,
}

impl Cluster {
    /// A control plane without a node.
    pub fn control_plane() -> Result<Self> {
        Self::start(
            &[
                "--disable-agent",
                "--advertise-address=127.0.0.1",
                "--bind-address=127.0.0.1",
            ],
            false,
        )
    }

    /// A control plane and a node that runs real containers; needs root.
    pub fn with_node() -> Result<Self> {
        if !is_root() {
            bail!("this test runs containers and needs root");
        }
        Self::start(&["--healthz-port=0", ANY_DISK], true)
    }

    fn start(flags: &[&str], with_node: bool) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("xebec-test-").tempdir()?;
        let port = free_port()?;
        let mut arguments = vec![
            "server".to_owned(),
            format!("--data-dir={}", directory.path().display()),
            format!("--https-port={port}"),
            "--node-name=node-1".to_owned(),
            // Several clusters run side by side, each of one master.
            "--store-peer-port=0".to_owned(),
            "--store-client-port=0".to_owned(),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        if with_node {
            arguments.push(format!("--kubelet-port={}", free_port()?));
            provide_images(directory.path())?;
        }
        let mut cluster = Self {
            directory,
            arguments,
            port,
            with_node,
            server: None,
        };
        cluster.spawn()?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Starts the server's process again; it must not be running.
    pub fn spawn(&mut self) -> Result<()> {
        let mut command = Command::new(binary()?);
        self.server = Some(Process::start(command.args(&self.arguments), &self.log())?);
        Ok(())
    }

    /// Waits until the API answers, and the node is Ready where there is one.
    pub fn wait_ready(&mut self) -> Result<()> {
        let log = self.log();
        let kubeconfig = self.kubeconfig();
        let check = if self.with_node {
            "--check=node"
        } else {
            "--check=api"
        };
        let mut server = self.server.take().context("not started")?;
        let answer = eventually("cluster ready", START_LIMIT, || {
            if let Some(status) = server.ended()? {
                bail!("xebec ended with {status}");
            }
            let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
            let status = Command::new(binary()?)
                .args(["status", check, &kubeconfig])
                .output()?;
            anyhow::ensure!(
                status.status.success(),
                "{}",
                String::from_utf8_lossy(&status.stderr)
            );
            Ok(())
        });
        self.server = Some(server);
        answer.with_context(|| tail(&log))
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.server.take().context("not running")?.kill()
    }

    /// SIGTERM, and waits for a clean end.
    pub fn stop(&mut self) -> Result<()> {
        self.server.take().context("not running")?.stop()
    }

    /// The server's process id.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::pid)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("server/admin.kubeconfig")
    }

    pub fn log(&self) -> PathBuf {
        self.data_dir().join("server.log")
    }

    /// The first kubectl of this machine.
    pub fn kubectl(&self) -> Result<Kubectl> {
        let program = kubectls()
            .into_iter()
            .next()
            .context("no kubectl: run scripts/setup-tests.sh")?;
        Ok(Kubectl::new(program, self.kubeconfig()))
    }

    /// A kube-rs client as admin.
    pub async fn client(&self) -> Result<kube::Client> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some()
            && let Err(error) = self.stop()
        {
            eprintln!("stopping the cluster: {error:#}");
        }
        if self.with_node {
            clean_data(self.data_dir());
        }
    }
}

/// Removes what an agent left behind: containers, mounts, networks.
pub fn clean_data(data_dir: &Path) {
    clean(Command::new(cleaner()), data_dir);
}

/// The same for an agent on a host of its own: the rules of others stay.
pub(crate) fn clean_data_in(host: &Host, data_dir: &Path) {
    clean(host.command(cleaner()), data_dir);
}

fn cleaner() -> PathBuf {
    repository().join("scripts/clean-data.sh")
}

fn clean(mut command: Command, data_dir: &Path) {
    match command.env("DATA_DIR", data_dir).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => eprintln!("cleaning: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("cleaning: {error}"),
    }
}

/// A port that nobody listens on right now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The root of the clone that the tests are run in: what was built for another clone in the same target directory is not
/// built again.
pub fn repository() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    Path::new(&manifest).join("..")
}

/// The binary that was built beside this test.
pub fn binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test
        .ancestors()
        .nth(2)
        .context("a test lies in target/PROFILE/deps")?;
    let binary = folder.join("xebec");
    anyhow::ensure!(
        binary.is_file(),
        "{} is not built: cargo build --bin xebec",
        binary.display()
    );
    Ok(binary)
}

/// The archive of the example's images, built once per target directory.
pub fn example_images() -> Result<PathBuf> {
    let binary = binary()?;
    let archive = binary
        .ancestors()
        .nth(2)
        .context("target/PROFILE/xebec")?
        .join("xebec-example.tar");
    if !archive.is_file() {
        let output = Command::new(repository().join("scripts/build-example-image.sh"))
            .arg(&archive)
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(archive)
}

/// Puts the example's images where an agent with this data directory imports them.
pub fn provide_images(data_dir: &Path) -> Result<()> {
    let images = data_dir.join("agent/images");
    std::fs::create_dir_all(&images)?;
    std::fs::copy(example_images()?, images.join("example.tar"))?;
    Ok(())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
