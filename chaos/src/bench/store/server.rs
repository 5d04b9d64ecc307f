//! The servers that are compared: some run already, others are started here with fresh directories on loopback.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use super::client::{Client, says_it_leads};
use super::wire::Wire;

const START_LIMIT: Duration = Duration::from_secs(60);

/// What a member is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    Leader,
    Follower,
}

/// One cluster under test.
pub struct Server {
    pub name: String,
    pub urls: Vec<String>,
    /// Empty if it runs elsewhere: then nothing is known of its CPU time.
    pub pids: Vec<u32>,
    /// Data directories of the members, if they were started here.
    pub dirs: Vec<PathBuf>,
    /// Ended when dropped.
    _members: Vec<Child>,
}

/// `NAME=URL[,URL…]`: a cluster that runs already.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    urls: Vec<String>,
}

impl std::str::FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, urls) = text.split_once('=').context("NAME=URL is wanted")?;
        let urls = urls.split(',').map(str::to_owned).collect();
        Ok(Self {
            name: name.to_owned(),
            urls,
        })
    }
}

impl Peer {
    /// `pids`: `NAME=PID` of all peers.
    pub fn server(self, pids: &[(String, u32)]) -> Server {
        let mine = pids.iter().filter(|(name, _)| *name == self.name);
        Server {
            pids: mine.map(|(_, pid)| *pid).collect(),
            name: self.name,
            urls: self.urls,
            dirs: Vec::new(),
            _members: Vec::new(),
        }
    }
}

/// `NAME[=PROGRAM]`: a server that is started here. A program named `xebec` is run as `xebec store`.
#[derive(Clone, Debug)]
pub struct Start {
    pub name: String,
    program: PathBuf,
}

impl std::str::FromStr for Start {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, program) = text.split_once('=').unwrap_or((text, text));
        Ok(Self {
            name: name.to_owned(),
            program: program.into(),
        })
    }
}

impl Start {
    fn is_xebec(&self) -> bool {
        let file = self.program.file_name();
        file.is_some_and(|file| file.to_string_lossy().starts_with("xebec"))
    }

    /// Starts `members` members below `folder`.
    pub async fn start(
        &self,
        folder: &Path,
        members: u16,
        extra: &[String],
        environment: &[(&str, PathBuf)],
    ) -> Result<Server> {
        let ports = free_ports(2 * usize::from(members))?;
        let url = |member: u16, of| {
            let port = ports[2 * usize::from(member) + of];
            format!("http://127.0.0.1:{port}")
        };
        let cluster: Vec<String> = (0..members)
            .map(|member| format!("m{member}={}", url(member, 1)))
            .collect();
        let mut server = Server {
            name: self.name.clone(),
            urls: (0..members).map(|member| url(member, 0)).collect(),
            pids: Vec::new(),
            dirs: Vec::new(),
            _members: Vec::new(),
        };
        for member in 0..members {
            let dir = folder.join(format!("{}-m{member}", self.name));
            if dir.exists() {
                std::fs::remove_dir_all(&dir)?;
            }
            std::fs::create_dir_all(&dir)?;
            let log = File::create(folder.join(format!("{}-m{member}.log", self.name)))?;
            let mut command = Command::new(&self.program);
            if self.is_xebec() {
                command.arg("store");
            }
            command.arg(format!("--name=m{member}"));
            command.arg(format!("--data-dir={}", dir.display()));
            command.arg(format!("--listen-client-urls={}", url(member, 0)));
            command.arg(format!("--advertise-client-urls={}", url(member, 0)));
            if members > 1 || !self.is_xebec() {
                command.arg(format!("--listen-peer-urls={}", url(member, 1)));
                command.arg(format!("--initial-advertise-peer-urls={}", url(member, 1)));
                command.arg(format!("--initial-cluster={}", cluster.join(",")));
                command.arg("--initial-cluster-state=new");
            }
            let child = command
                .args(extra)
                .envs(environment.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("cannot start {}", self.program.display()))?;
            server
                .pids
                .push(child.id().context("it has ended at once")?);
            server.dirs.push(dir);
            server._members.push(child);
        }
        for url in &server.urls {
            let ready = Client::wait_ready(url, START_LIMIT).await;
            ready.with_context(|| format!("{}: see its log in {}", self.name, folder.display()))?;
        }
        Ok(server)
    }
}

/// Ports of loopback that nobody listens on, each another.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

impl Server {
    /// Lists a member of that role first: a lone client's write takes a longer way through a follower, and servers are
    /// compared over the same one.
    pub async fn begin_at(&mut self, role: Role) -> Result<()> {
        for number in 0..self.urls.len() {
            let client = Client::connect(&self.urls[number]).await?;
            if says_it_leads(&client.status().await?) == (role == Role::Leader) {
                self.urls.rotate_left(number);
                break;
            }
        }
        Ok(())
    }

    /// `count` connections, spread over the members.
    pub async fn connect(&self, count: usize) -> Result<Vec<Client>> {
        if self.urls.is_empty() {
            bail!("{} has no URL", self.name);
        }
        let mut clients = Vec::new();
        for number in 0..count {
            clients.push(Client::connect(&self.urls[number % self.urls.len()]).await?);
        }
        Ok(clients)
    }

    /// Likewise, for the load.
    pub async fn wires(&self, count: usize) -> Result<Vec<Wire>> {
        let mut wires = Vec::new();
        for number in 0..count {
            let url = &self.urls[number % self.urls.len()];
            let address = url.strip_prefix("http://");
            let address =
                address.with_context(|| format!("{url}: only http:// can be measured"))?;
            wires.push(Wire::connect(address.trim_end_matches('/')).await?);
        }
        Ok(wires)
    }

    /// Bytes that the members' directories take on disk.
    pub fn disk(&self) -> u64 {
        self.dirs.iter().map(|dir| disk(dir)).sum()
    }
}

fn disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(found) = std::fs::symlink_metadata(path) else {
        // Files come and go meanwhile.
        return 0;
    };
    if !found.is_dir() {
        return found.blocks() * 512;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| disk(&entry.path())).sum()
}
