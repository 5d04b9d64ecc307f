//! Where members run: network namespaces on one bridge, each with an address of its own, whose links can be cut; or
//! loopback, where they cannot. Needs root for namespaces. Removed when dropped; what a run that was killed has left is
//! removed by the next.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

pub struct Network {
    /// None on loopback.
    bridge: Option<String>,
    hosts: usize,
    prefix: [u8; 3],
}

/// What a host does not get: packets from an address, all or some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    pub from: Ipv4Addr,
    pub percent: u64,
}

/// How packets are late, in tc's words.
const DELAY: &str = "netem delay 100ms 40ms";
/// Private addresses that hardly anything else on a test machine uses. The process decides where the search for free
/// ones begins.
const NETWORKS: [u8; 2] = [172, 30];
/// Names of bridges: this, and the process that they belong to.
const BRIDGES: &str = "xc";
/// Of addresses on the bridge: the machine itself, where clients are, and the first host.
const GATEWAY: u8 = 1;
const FIRST_HOST: u8 = 10;

impl Network {
    /// Namespaces if this may make them, else loopback.
    pub fn new(hosts: usize, loopback: bool) -> Result<Self> {
        let process = std::process::id();
        let low = u8::try_from(process % 200)?;
        if loopback || !nix::unistd::geteuid().is_root() {
            let prefix = [127, 77, low];
            let bridge = None;
            return Ok(Self {
                bridge,
                hosts,
                prefix,
            });
        }
        // 15 bytes are all that the name of an interface may have.
        let bridge = format!("{BRIDGES}{process}");
        remove_abandoned()?;
        let third = free(&addresses_in_use()?, low).context("172.30.0.0/16 is in use")?;
        let [first, second] = NETWORKS;
        let mut network = Self {
            bridge: Some(bridge.clone()),
            hosts: 0,
            prefix: [first, second, third],
        };
        ip(&format!("link add {bridge} type bridge"))?;
        let gateway = network.gateway();
        ip(&format!("addr add {gateway}/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        for host in 0..hosts {
            network.hosts = host + 1;
            network.plug_in(&bridge, host)?;
        }
        Ok(network)
    }

    fn plug_in(&self, bridge: &str, host: usize) -> Result<()> {
        let name = format!("{bridge}h{host}");
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {name} type veth peer name eth0 netns {name}"
        ))?;
        ip(&format!("link set {name} master {bridge} up"))?;
        let (address, gateway) = (self.address(host), self.gateway());
        for arguments in [
            "link set lo up".to_owned(),
            format!("addr add {address}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via {gateway}"),
        ] {
            ip(&format!("-n {name} {arguments}"))?;
        }
        Ok(())
    }

    pub fn has_links(&self) -> bool {
        self.bridge.is_some()
    }

    /// Where clients call from.
    pub fn gateway(&self) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, GATEWAY)
    }

    pub fn address(&self, host: usize) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        let last = FIRST_HOST + u8::try_from(host).expect("a handful of hosts");
        Ipv4Addr::new(a, b, c, last)
    }

    /// The file that a thread enters this host by; none on loopback.
    pub fn namespace(&self, host: usize) -> Option<PathBuf> {
        let bridge = self.bridge.as_ref()?;
        Some(PathBuf::from(format!("/run/netns/{bridge}h{host}")))
    }

    /// A command that runs on this host. Its file system is the machine's.
    pub fn command(&self, host: usize, program: &Path) -> tokio::process::Command {
        let Some(bridge) = &self.bridge else {
            return tokio::process::Command::new(program);
        };
        // Not `ip netns exec`: that hides /sys, which containers need.
        let mut command = tokio::process::Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{bridge}h{host}"));
        command.arg("--").arg(program);
        command
    }

    /// From now on what the host sends is late, or is not any more.
    pub fn set_delay(&self, host: usize, on: bool) -> Result<()> {
        let Some(bridge) = &self.bridge else {
            return Ok(());
        };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{bridge}h{host}"));
        command.args(["--", "tc", "qdisc", if on { "replace" } else { "del" }]);
        command.args(["dev", "eth0", "root"]);
        if on {
            command.args(DELAY.split(' '));
        }
        let output = command.output().context("tc")?;
        // Where nothing was late there is nothing to delete.
        ensure!(!on || output.status.success(), "tc refuses {DELAY}");
        Ok(())
    }

    /// From now on the host gets everything but this.
    pub fn set_drops(&self, host: usize, drops: &[Drop]) -> Result<()> {
        let Some(bridge) = &self.bridge else {
            ensure!(drops.is_empty(), "loopback has no links to cut");
            return Ok(());
        };
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{bridge}h{host}"))
            .args(["--", "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("nft")?;
        let mut input = child.stdin.take().context("piped above")?;
        input.write_all(ruleset(drops).as_bytes())?;
        drop(input);
        ensure!(child.wait()?.success(), "nft refuses {drops:?}");
        Ok(())
    }
}

/// Whether the kernel can delay packets; asked in a namespace that is gone at once.
pub fn can_delay() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--net", "tc", "qdisc", "add", "dev", "lo", "root"]);
    let asked = command.args(DELAY.split(' ')).output();
    asked.is_ok_and(|output| output.status.success())
}

fn ruleset(drops: &[Drop]) -> String {
    let mut text =
        "table ip chaos\ndelete table ip chaos\ntable ip chaos { chain in {\n".to_owned();
    text += "type filter hook input priority 0; policy accept;\n";
    for Drop { from, percent } in drops {
        let share = match percent {
            100.. => String::new(),
            percent => format!("numgen random mod 100 < {percent} "),
        };
        text += &format!("ip saddr {from} {share}drop\n");
    }
    text + "}\n}\n"
}

impl std::ops::Drop for Network {
    fn drop(&mut self) {
        let Some(bridge) = &self.bridge else { return };
        for host in 0..self.hosts {
            // The link first: a namespace goes later than the command that removes it, and its links with it.
            for what in ["link", "netns"] {
                if let Err(error) = ip(&format!("{what} del {bridge}h{host}")) {
                    eprintln!("removing a host: {error:#}");
                }
            }
        }
        if let Err(error) = ip(&format!("link del {bridge}")) {
            eprintln!("removing the network: {error:#}");
        }
    }
}

/// Removes networks whose process is gone: with the same addresses on two bridges, calls would go to its hosts.
fn remove_abandoned() -> Result<()> {
    let gone = |name: &str| {
        let process = name.strip_prefix(BRIDGES)?.split('h').next()?;
        let process: u32 = process.parse().ok()?;
        Some(!Path::new(&format!("/proc/{process}")).exists())
    };
    for (what, folder) in [("link", "/sys/class/net"), ("netns", "/run/netns")] {
        // No namespace was ever made: there is no folder.
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if gone(&name) == Some(true) {
                println!("removing {name}, which a run that was killed has left");
                // Another run may remove it in the same moment, and a bridge's links go with their namespaces.
                if let Err(error) = ip(&format!("{what} del {name}")) {
                    println!("{error:#}");
                }
            }
        }
    }
    Ok(())
}

/// The third byte of a /24 of [`NETWORKS`] in which this machine has no address, from `start` on.
fn free(addresses: &[Ipv4Addr], start: u8) -> Option<u8> {
    let [first, second] = NETWORKS;
    let mut candidates = (0..=u8::MAX).map(|step| start.wrapping_add(step));
    candidates.find(|third| {
        let mut taken = addresses.iter().map(Ipv4Addr::octets);
        !taken.any(|[a, b, c, _]| [a, b, c] == [first, second, *third])
    })
}

fn addresses_in_use() -> Result<Vec<Ipv4Addr>> {
    let all = nix::ifaddrs::getifaddrs().context("this machine's addresses")?;
    Ok(all
        .filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip()))
        .collect())
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.with_context(|| format!("ip {arguments}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip {arguments}: {}", said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{Drop, free, ruleset};

    #[test]
    fn addresses_of_another_network_are_not_used_again() {
        let at = |third| Ipv4Addr::new(172, 30, third, 1);
        assert_eq!(free(&[], 85), Some(85));
        assert_eq!(free(&[at(85), at(86), at(88)], 85), Some(87));
        assert_eq!(free(&[at(255)], 255), Some(0));
        let all: Vec<Ipv4Addr> = (0..=255).map(at).collect();
        assert_eq!(free(&all, 3), None);
    }

    #[test]
    fn what_is_dropped_replaces_what_was() {
        let from = Ipv4Addr::new(10, 0, 0, 1);
        let rules = ruleset(&[Drop { from, percent: 100 }, Drop { from, percent: 20 }]);
        assert!(rules.starts_with("table ip chaos\ndelete table ip chaos\n"));
        assert!(rules.contains("ip saddr 10.0.0.1 drop\n"));
        assert!(rules.contains("ip saddr 10.0.0.1 numgen random mod 100 < 20 drop\n"));
    }
}
