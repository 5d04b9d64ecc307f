//! Stores under etcd's API as processes of their own: real etcd 3.4 and 3.5, and `xebec store`.
//!
//! Knows how each is found and started, not what is asked of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::{binary, free_port};
use crate::command::{Output, cache, run};
use crate::process::Process;
use crate::wait::eventually;

/// The release of etcd 3.5 that `scripts/setup-tests.sh` installs.
const ETCD_3_5: &str = "3.5.1";
/// How long a first start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Whose program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd34,
    Etcd35,
    Xebec,
}

impl Program {
    /// The name that tests and documents call it by.
    pub fn name(self) -> &'static str {
        match self {
            Program::Etcd34 => "3.4",
            Program::Etcd35 => "3.5",
            Program::Xebec => "xebec",
        }
    }

    /// The program, saying little.
    pub(crate) fn command(self) -> Result<Command> {
        let program = match self {
            Program::Etcd34 => PathBuf::from("etcd"),
            Program::Etcd35 => etcd_3_5("etcd")?,
            // Another program under the same flags, to try a part of the store without the whole binary.
            Program::Xebec => std::env::var_os("XEBEC_TEST_STORE")
                .map_or_else(binary, |other| Ok(PathBuf::from(other)))?,
        };
        let mut command = Command::new(program);
        match self {
            Program::Xebec => command.args(["store", "--log-level=warn"]),
            _ => command.arg("--log-level=error"),
        };
        Ok(command)
    }
}

/// A program of etcd 3.5: `etcd` or `etcdctl`.
pub fn etcd_3_5(program: &str) -> Result<PathBuf> {
    let cache = cache().context("neither XDG_CACHE_HOME nor HOME is set")?;
    let path = cache.join(format!("etcd-{ETCD_3_5}/{program}"));
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run scripts/setup-tests.sh",
        path.display()
    );
    Ok(path)
}

/// Where Python finds some clients of etcd: `etcd3` or `patroni`.
pub fn python_clients(name: &str) -> Result<PathBuf> {
    let cache = cache().context("neither XDG_CACHE_HOME nor HOME is set")?;
    let path = cache.join("python").join(name);
    anyhow::ensure!(
        path.join(".installed").is_file(),
        "{} is missing: run scripts/setup-tests.sh",
        path.display()
    );
    Ok(path)
}

/// An etcdctl that talks to one store.
pub struct Etcdctl {
    program: PathBuf,
    endpoint: String,
}

impl Etcdctl {
    /// Debian's 3.4 and the installed 3.5, both with the URL that people type as endpoint.
    pub fn all(store: &StoreProcess) -> Result<Vec<Self>> {
        Self::at_each(&format!("http://127.0.0.1:{}", store.port()))
    }

    /// The same for any endpoints.
    pub fn at_each(endpoints: &str) -> Result<Vec<Self>> {
        let programs = [PathBuf::from("etcdctl"), etcd_3_5("etcdctl")?];
        let ctl = |program| Self {
            program,
            endpoint: endpoints.to_owned(),
        };
        Ok(programs.map(ctl).into())
    }

    /// The same program for another endpoint.
    pub fn at(&self, endpoint: impl Into<String>) -> Self {
        Self {
            program: self.program.clone(),
            endpoint: endpoint.into(),
        }
    }

    /// A command with these arguments, parted by spaces.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint])
            .args(arguments.split_whitespace());
        command
    }

    pub fn run(&self, arguments: &str, input: &str) -> Result<Output> {
        run(&mut self.command(arguments), input)
    }

    /// What it says on success.
    pub fn ok(&self, arguments: &str) -> Result<String> {
        let said = self.run(arguments, "")?.ok();
        said.with_context(|| format!("{} {arguments}", self.program.display()))
    }

    /// Runs it and compares what it says.
    pub fn check(&self, arguments: &str, input: &str, expect: &str) -> Result<()> {
        let said = self.run(arguments, input)?.ok();
        let said = said.with_context(|| format!("{} {arguments}", self.program.display()))?;
        anyhow::ensure!(
            said == expect,
            "etcdctl {arguments}: {said:?}, not {expect:?}"
        );
        Ok(())
    }

    /// Runs it and looks for the error that it must end with.
    pub fn fail(&self, arguments: &str, expect: &str) -> Result<()> {
        let output = self.run(arguments, "")?;
        anyhow::ensure!(!output.success, "etcdctl {arguments} did not fail");
        let said = output.stderr;
        anyhow::ensure!(said.contains(expect), "etcdctl {arguments}: {said}");
        Ok(())
    }
}

/// One store with one member, on a free port, in a directory of its own; stopped and cleaned when dropped.
pub struct StoreProcess {
    /// None only while it is started again. It ends before its directory goes.
    process: Option<Process>,
    directory: tempfile::TempDir,
    program: Program,
    flags: Vec<String>,
    port: u16,
    /// The other members of its cluster.
    others: Vec<Process>,
}

impl StoreProcess {
    /// Starts it with further flags and waits until it takes connections.
    pub fn start(program: Program, flags: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("xebec-store-").tempdir()?;
        let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        // A port of its own for peers, who will never come.
        let (port, peer) = (free_port()?, format!("http://127.0.0.1:{}", free_port()?));
        flags.push(format!("--listen-peer-urls={peer}"));
        flags.push(format!("--initial-advertise-peer-urls={peer}"));
        flags.push(format!("--initial-cluster=default={peer}"));
        let process = Some(spawn(program, directory.path(), port, &flags)?);
        let store = Self {
            directory,
            program,
            flags,
            port,
            process,
            others: Vec::new(),
        };
        store.wait_ready()?;
        Ok(store)
    }

    /// Starts it as one of three members, and lets another lead.
    pub fn start_follower(program: Program, flags: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("xebec-store-").tempdir()?;
        let names = ["default", "second", "third"];
        let mut members = Vec::new();
        for name in names {
            members.push((
                name,
                free_port()?,
                format!("http://127.0.0.1:{}", free_port()?),
            ));
        }
        let listed = members
            .iter()
            .map(|(name, _, peer)| format!("{name}={peer}"));
        let initial = format!("--initial-cluster={}", listed.collect::<Vec<_>>().join(","));
        let (mut processes, mut own) = (Vec::new(), Vec::new());
        for (name, port, peer) in &members {
            let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            flags.push(format!("--name={name}"));
            flags.push(format!("--listen-peer-urls={peer}"));
            flags.push(format!("--initial-advertise-peer-urls={peer}"));
            flags.push(initial.clone());
            let folder = match processes.is_empty() {
                true => directory.path().to_owned(),
                false => directory.path().join(name),
            };
            std::fs::create_dir_all(&folder)?;
            processes.push(spawn(program, &folder, *port, &flags)?);
            if own.is_empty() {
                own = flags;
            }
        }
        let others = processes.split_off(1);
        let store = Self {
            directory,
            program,
            flags: own,
            port: members[0].1,
            process: processes.pop(),
            others,
        };
        store.wait_ready()?;
        store.let_another_lead()?;
        Ok(store)
    }

    fn let_another_lead(&self) -> Result<()> {
        let ctl = Etcdctl::all(self)?.swap_remove(0);
        eventually("another member leads", START_LIMIT, || {
            let status = ctl.ok("endpoint status")?;
            if status.split(", ").nth(4) == Some("true") {
                let listed = ctl.ok("member list")?;
                let other = listed.lines().find(|line| line.contains("second"));
                let id = other.and_then(|line| line.split(',').next());
                ctl.ok(&format!("move-leader {}", id.context("it is listed")?))?;
            }
            // Served by the leader's word.
            ctl.ok("get nothing")?;
            let status = ctl.ok("endpoint status")?;
            anyhow::ensure!(status.split(", ").nth(4) == Some("false"), "{status}");
            Ok(())
        })
    }

    /// How many other members it has.
    pub fn others(&self) -> usize {
        self.others.len()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a test may leave files of its own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Kills the process as a power cut would, and starts it again on the same data.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.take().context("not running")?.kill()?;
        self.revive()
    }

    /// Starts the process again if a request made it end.
    pub fn revive(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && process.ended()?.is_none()
        {
            return Ok(());
        }
        let directory = self.directory.path();
        self.process = Some(spawn(self.program, directory, self.port, &self.flags)?);
        self.wait_ready()
    }

    fn wait_ready(&self) -> Result<()> {
        eventually("the store takes connections", START_LIMIT, || {
            let connected = std::net::TcpStream::connect(("127.0.0.1", self.port));
            connected.map(drop).with_context(|| self.log())
        })
    }

    /// What the process wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

fn spawn(program: Program, directory: &Path, port: u16, flags: &[String]) -> Result<Process> {
    let tls = flags.iter().any(|flag| flag.starts_with("--cert-file"));
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{port}");
    let mut command = program.command()?;
    command
        .arg(format!("--data-dir={}", directory.join("data").display()))
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .args(flags);
    Process::start(&mut command, &directory.join("log"))
}
