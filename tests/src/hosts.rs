//! Several hosts on one machine: network namespaces on one bridge, each with an address of its own. Needs root.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};

use crate::command::run;

/// A test may have more than one network, and other tests theirs.
static NETWORKS: AtomicU8 = AtomicU8::new(0);

/// A link that hosts are plugged into; the machine itself has the first address. Removed when dropped.
pub struct Network {
    name: String,
    prefix: [u8; 3],
}

/// A host on a [`Network`]. Removed when dropped; what still runs in it keeps its namespace until it ends.
pub struct Host {
    name: String,
    /// Its end of the cable outside.
    plug: String,
    pub address: Ipv4Addr,
}

fn ip(arguments: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    let answer = run(&mut command, "")?.ok();
    answer.map(drop).with_context(|| format!("ip {arguments}"))
}

/// Private addresses that hardly anything else on a test machine uses, and no other network: one that a killed test has
/// left would get this one's packets.
fn free_prefix(start: u8) -> Result<[u8; 3]> {
    let listed = run(Command::new("ip").args(["-4", "-o", "address"]), "")?.ok()?;
    let mut thirds = (0..=u8::MAX).map(|step| start.wrapping_add(step));
    let third = thirds.find(|third| !listed.contains(&format!(" 172.31.{third}.")));
    Ok([172, 31, third.context("172.31.0.0/16 is in use")?])
}

impl Network {
    pub fn new() -> Result<Self> {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let network = Self {
            // 15 bytes are all that the name of an interface may have.
            name: format!("xt{process}n{number}"),
            prefix: free_prefix(u8::try_from(process % 200)?.wrapping_add(number))?,
        };
        let (name, gateway) = (&network.name, network.address(1));
        ip(&format!("link add {name} type bridge"))?;
        ip(&format!("addr add {gateway}/24 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        Ok(network)
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, last)
    }

    /// A host whose address ends with this number.
    pub fn host(&self, last: u8) -> Result<Host> {
        let name = format!("{}h{last}", self.name);
        let (outside, inside) = (format!("{}{last}", self.name), "eth0");
        let host = Host {
            name: name.clone(),
            plug: outside.clone(),
            address: self.address(last),
        };
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {outside} type veth peer name {inside} netns {name}"
        ))?;
        ip(&format!("link set {outside} master {} up", self.name))?;
        let gateway = self.address(1);
        for arguments in [
            "link set lo up".to_owned(),
            format!("addr add {}/24 dev {inside}", host.address),
            format!("link set {inside} up"),
            format!("route add default via {gateway}"),
        ] {
            ip(&format!("-n {name} {arguments}"))?;
        }
        Ok(host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("link del {}", self.name)) {
            eprintln!("removing the network: {error:#}");
        }
    }
}

impl Host {
    /// Cuts the host off from all others, or ends that.
    pub fn set_plugged(&self, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        ip(&format!("link set {} {state}", self.plug))
    }

    /// A command that runs on this host. Its file system is the machine's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Not `ip netns exec`: that hides /sys, which containers need.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg("--")
            .arg(program);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns del {}", self.name)) {
            eprintln!("removing a host: {error:#}");
        }
    }
}
