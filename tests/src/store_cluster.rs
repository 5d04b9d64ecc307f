//! A cluster of stores as processes, under etcd's own flags, as etcd's own client meets them.
//!
//! Knows how they are started and asked, not what is tested.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::free_port;
use crate::command::run;
use crate::etcd::{Etcdctl, Program};
use crate::process::Process;
use crate::wait::eventually;

const LIMIT: Duration = Duration::from_secs(60);

/// One member; it may be down.
pub struct StoreMember {
    pub name: String,
    pub client: String,
    pub peer: String,
    pub flags: Vec<String>,
    pub process: Option<Process>,
}

/// Members of one cluster; stopped and cleaned when dropped.
pub struct StoreCluster {
    pub program: Program,
    /// They end before the directory goes.
    pub members: Vec<StoreMember>,
    directory: tempfile::TempDir,
}

impl StoreCluster {
    /// Founds a cluster of three under etcd's flags, and these.
    pub fn found(flags: &[&str]) -> Result<Self> {
        Self::found_of(Program::Xebec, flags)
    }

    /// The same of any program.
    pub fn found_of(program: Program, flags: &[&str]) -> Result<Self> {
        let mut cluster = Self {
            program,
            directory: tempfile::tempdir()?,
            members: Vec::new(),
        };
        for at in 0..3 {
            let flags = flags.iter().map(|flag| (*flag).to_owned());
            cluster.add(&format!("m{at}"), flags.collect())?;
        }
        let named = cluster.members.iter();
        let initial: Vec<String> = named
            .map(|member| format!("{}={}", member.name, member.peer))
            .collect();
        let flag = format!("--initial-cluster={}", initial.join(","));
        for at in 0..3 {
            cluster.members[at].flags.push(flag.clone());
            cluster.start(at)?;
        }
        cluster.await_answer(&[0, 1, 2])?;
        Ok(cluster)
    }

    pub fn add(&mut self, name: &str, flags: Vec<String>) -> Result<usize> {
        let url = || Ok::<_, anyhow::Error>(format!("http://127.0.0.1:{}", free_port()?));
        self.members.push(StoreMember {
            name: name.to_owned(),
            client: url()?,
            peer: url()?,
            flags,
            process: None,
        });
        Ok(self.members.len() - 1)
    }

    pub fn start(&mut self, at: usize) -> Result<()> {
        let data = self.data(at);
        let member = &mut self.members[at];
        let log = self.directory.path().join(format!("{}.log", member.name));
        let mut command = self.program.command()?;
        command
            .args(["--name", &member.name])
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls={}", member.client))
            .arg(format!("--advertise-client-urls={}", member.client))
            .arg(format!("--listen-peer-urls={}", member.peer))
            .arg(format!("--initial-advertise-peer-urls={}", member.peer))
            .args(&member.flags);
        member.process = Some(Process::start(&mut command, &log)?);
        Ok(())
    }

    pub fn kill(&mut self, at: usize) -> Result<()> {
        let process = self.members[at].process.take();
        process.context("it runs")?.kill()
    }

    /// The port at which a member serves clients.
    pub fn port(&self, at: usize) -> u16 {
        let (_, port) = self.members[at].client.rsplit_once(':').unwrap_or_default();
        port.parse().expect("a URL of ours ends with a port")
    }

    /// Where a test may leave files of its own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn data(&self, at: usize) -> PathBuf {
        self.directory.path().join(&self.members[at].name)
    }

    /// Both etcdctls, with these members as endpoints.
    pub fn ctls(&self, members: &[usize]) -> Result<Vec<Etcdctl>> {
        Etcdctl::at_each(&self.endpoints(members))
    }

    pub fn endpoints(&self, members: &[usize]) -> String {
        let urls: Vec<&str> = members
            .iter()
            .map(|at| self.members[*at].client.as_str())
            .collect();
        urls.join(",")
    }

    pub fn etcdctl(&self, members: &[usize], arguments: &str) -> Result<String> {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.endpoints(members))
            .arg("--command-timeout=20s")
            .args(arguments.split_whitespace());
        run(&mut command, "")?
            .ok()
            .with_context(|| format!("etcdctl {arguments}"))
    }

    pub fn await_answer(&self, members: &[usize]) -> Result<()> {
        for at in members {
            eventually("the member answers", LIMIT, || {
                self.etcdctl(&[*at], "get ready").map(drop)
            })?;
        }
        Ok(())
    }

    /// The members as etcdctl lists them: name, and whether it is a learner.
    pub fn list(&self, at: usize) -> Result<BTreeSet<(String, String)>> {
        let said = self.etcdctl(&[at], "member list")?;
        let fields = |line: &str| -> Vec<String> { line.split(", ").map(str::to_owned).collect() };
        let row = |line: &str| {
            let fields = fields(line);
            (
                fields.get(2).cloned().unwrap_or_default(),
                fields.last().cloned().unwrap_or_default(),
            )
        };
        Ok(said.lines().map(row).collect())
    }

    pub fn id(&self, at: usize) -> Result<String> {
        let said = self.etcdctl(&[at], "member list")?;
        let own = said
            .lines()
            .find(|line| line.contains(&self.members[at].peer));
        let id = own.and_then(|line| line.split(',').next());
        Ok(id.context("the member is listed")?.to_owned())
    }

    /// The one of the members that leads.
    pub fn leader(&self, members: &[usize]) -> Result<usize> {
        for at in members {
            // 3.4's columns: endpoint, id, version, size, is leader, …
            let status = self.etcdctl(&[*at], "endpoint status")?;
            if status.split(", ").nth(4) == Some("true") {
                return Ok(*at);
            }
        }
        anyhow::bail!("nobody leads")
    }

    pub fn check_hashes(&self, members: &[usize]) -> Result<()> {
        // A read on each makes it catch up first.
        self.await_answer(members)?;
        let said = self.etcdctl(members, "endpoint hashkv")?;
        let hashes: BTreeSet<_> = said
            .lines()
            .map(|line| line.rsplit(", ").next().unwrap_or_default().to_owned())
            .collect();
        ensure!(hashes.len() == 1, "the members differ: {said}");
        Ok(())
    }
}
