//! The cluster under test: members of the store as real processes, and what can be asked of them.
//!
//! Knows flags, addresses and etcd's API; must not know what is tested with it.

mod agents;
mod api;
mod masters;
mod member;
mod network;
mod stores;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::Kubeconfig;
use crate::bench::store::Client;
pub use api::{Api, Lines};
pub use masters::leader;
pub use member::Member;
pub use network::{Drop, Network, can_delay};

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How long one question to one member may take.
const ASK_LIMIT: Duration = Duration::from_secs(8);
/// A busy machine may take this long for a first start.
const START_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A member that ends by itself is started again after this.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// What the members are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Members of the store alone, as etcd.
    Store,
    /// Masters: a member of the store, an API server, a scheduler and controllers in each.
    Cluster,
}

/// How members are started.
#[derive(Clone, Debug)]
pub struct Setting {
    pub level: Level,
    pub program: PathBuf,
    /// What members run from their first rolling restart on.
    pub upgrade_to: Option<PathBuf>,
    pub members: usize,
    /// Nodes beside them that run real containers; masters need root for that.
    pub agents: usize,
    pub folder: PathBuf,
    /// No namespaces even if they can be had.
    pub loopback: bool,
    /// The library that delays fsync.
    pub slow_fsync: Option<PathBuf>,
    /// The library that sets the clock wrong.
    pub clock_offset: Option<PathBuf>,
    /// Data lies on file systems of this size, so that they can be full.
    pub disk_bytes: Option<u64>,
    /// For the members' environment: `NAME=VALUE`.
    pub environment: Vec<(String, String)>,
}

pub struct Cluster {
    /// They end before their network goes.
    pub members: Vec<Member>,
    pub agents: Vec<Member>,
    pub network: Network,
    setting: Setting,
    /// Members that were added again.
    additions: usize,
    /// How the API of masters is called; the address is that of none of them.
    kubeconfig: Option<Kubeconfig>,
}

impl Cluster {
    /// Founds a cluster in a folder of its own; what lay there is removed.
    pub async fn start(setting: &Setting) -> Result<Self> {
        if setting.folder.exists() {
            std::fs::remove_dir_all(&setting.folder)?;
        }
        // One more than there are servers: where clients of Services are.
        let hosts = match setting.agents {
            0 => setting.members,
            agents => setting.members + agents + 1,
        };
        let network = Network::new(hosts, setting.loopback)?;
        let mut members = Vec::new();
        for number in 0..setting.members {
            let folder = std::path::absolute(setting.folder.join(format!("m{number}")))?;
            std::fs::create_dir_all(folder.join("data"))?;
            if let Some(bytes) = setting.disk_bytes {
                mount(&folder.join("data"), bytes)?;
            }
            let mut member = Member::new(format!("m{number}"), folder);
            member.environment = setting.environment.clone();
            member.environment.extend(preloaded(setting, &member)?);
            members.push(member);
        }
        let mut cluster = Self {
            members,
            agents: Vec::new(),
            network,
            setting: setting.clone(),
            additions: 0,
            kubeconfig: None,
        };
        match setting.level {
            Level::Store => cluster.found_stores().await?,
            Level::Cluster => cluster.found_masters().await?,
        }
        cluster.found_agents().await?;
        Ok(cluster)
    }

    pub fn level(&self) -> Level {
        self.setting.level
    }

    pub fn address(&self, number: usize) -> Ipv4Addr {
        self.network.address(number)
    }

    pub fn start_member(&mut self, number: usize) -> Result<()> {
        let program = self.program(number).to_owned();
        let command = self.network.command(number, &program);
        self.members[number].start(command, &program)
    }

    /// What the member runs, or will run when it is started again.
    fn program(&self, number: usize) -> &Path {
        match &self.setting.upgrade_to {
            Some(newer) if self.members[number].upgraded => newer,
            _ => &self.setting.program,
        }
    }

    /// Waits until the member answers what needs the others.
    pub async fn await_answer(&mut self, number: usize, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if !self.members[number].runs()? {
                // As a service manager would. That it was needed is told.
                let member = &self.members[number];
                let said = tail(&member.log());
                let last = said.lines().last().unwrap_or_default();
                println!("        {} had ended: {last}", member.name);
                sleep(RESTART_AFTER).await;
                self.start_member(number)?;
            }
            let answer = match self.setting.level {
                Level::Store => self.store_answers(number).await,
                Level::Cluster => self.master_answers(number).await,
            };
            let Err(error) = answer else { return Ok(()) };
            let member = &mut self.members[number];
            let log = || tail(&member.log());
            let name = &member.name;
            ensure!(Instant::now() < deadline, "{name}: {error:#}\n{}", log());
            sleep(LOOK_EVERY).await;
        }
    }

    /// Removes the member, wipes it and adds it again.
    pub async fn replace(&mut self, number: usize) -> Result<()> {
        match self.setting.level {
            Level::Store => self.replace_store(number).await,
            Level::Cluster => self.replace_master(number).await,
        }
    }

    async fn wipe(&mut self, number: usize) -> Result<()> {
        // It may end by itself; nobody waits for that.
        self.members[number].kill().await?;
        let data = self.members[number].data();
        if data.exists() {
            std::fs::remove_dir_all(data)?;
        }
        Ok(())
    }

    /// A member that runs and is not this one.
    fn another(&mut self, number: usize) -> Result<usize> {
        for at in 0..self.members.len() {
            if at != number && self.members[at].runs()? {
                return Ok(at);
            }
        }
        bail!("no other member runs")
    }

    /// Kills all that runs and unmounts what was mounted.
    pub async fn stop(mut self) -> Result<()> {
        for member in &mut self.members {
            member.kill().await?;
        }
        Ok(())
    }
}

impl std::ops::Drop for Cluster {
    fn drop(&mut self) {
        self.remove_agents();
        if self.setting.disk_bytes.is_none() {
            return;
        }
        for member in &self.members {
            let data = member.folder.join("data");
            // Lazily: the members end only now.
            let unmounted = std::process::Command::new("umount")
                .arg("-l")
                .arg(&data)
                .status();
            if !unmounted.is_ok_and(|status| status.success()) {
                eprintln!("{} stays mounted", data.display());
            }
        }
    }
}

fn mount(folder: &Path, bytes: u64) -> Result<()> {
    let status = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
        .arg(folder)
        .status()?;
    ensure!(status.success(), "cannot mount a small disk");
    Ok(())
}

/// The environment that loads the libraries of faults, and the files that they look at.
fn preloaded(setting: &Setting, member: &Member) -> Result<Vec<(String, String)>> {
    let (mut libraries, mut environment) = (Vec::new(), Vec::new());
    if let Some(library) = &setting.slow_fsync {
        set_delay(member, 0)?;
        libraries.push(library.display().to_string());
        let file = member.delay_file().display().to_string();
        environment.push(("SLOW_FSYNC_FILE".to_owned(), file));
    }
    if let Some(library) = &setting.clock_offset {
        set_clock(member, 0)?;
        libraries.push(library.display().to_string());
        let file = member.clock_file().display().to_string();
        environment.push(("CLOCK_OFFSET_FILE".to_owned(), file));
    }
    if !libraries.is_empty() {
        environment.push(("LD_PRELOAD".to_owned(), libraries.join(":")));
    }
    Ok(environment)
}

/// In place, since the process has mapped it.
pub fn set_clock(member: &Member, seconds: i64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let nanos = seconds * 1_000_000_000;
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(member.clock_file())?;
    Ok(file.write_all_at(&nanos.to_ne_bytes(), 0)?)
}

/// Written as a whole, so that the library never reads half a number.
pub fn set_delay(member: &Member, millis: u64) -> Result<()> {
    let file = member.delay_file();
    let new = file.with_extension("new");
    std::fs::write(&new, millis.to_string())?;
    Ok(std::fs::rename(new, file)?)
}

/// One question over a connection of its own.
pub async fn ask<A: prost::Message + Default>(
    url: &str,
    method: &str,
    request: &impl prost::Message,
) -> Result<A> {
    let answer = async {
        let client = connect(url).await?;
        client.unary(method, request).await
    };
    timeout(ASK_LIMIT, answer)
        .await
        .with_context(|| format!("{method} at {url}"))?
}

pub async fn connect(url: &str) -> Result<Client> {
    timeout(CONNECT_LIMIT, Client::connect(url))
        .await
        .context("connecting")?
}

/// Lines of a log that a failure shows.
const SHOWN_LINES: usize = 20;

pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
