//! What the host must have and how its kernel must be set for pods to be reached.
//!
//! It must not know addresses of pods or Services.

use std::path::{Path, PathBuf};

use super::NetworkError;
use crate::containerd::find_program;

/// Ethernet's usual MTU in bytes, for a host without a default route.
const USUAL_MTU: u32 = 1500;

/// Kernel settings that routing between pods, Services and the world needs.
const SETTINGS: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    // Pod traffic enters and leaves by the same bridge: the kernel must not tell pods of a shorter way.
    ("net/ipv4/conf/all/send_redirects", "0"),
    // NodePorts on 127.0.0.1: addresses of the loopback network are translated, and kept from other devices by a rule.
    ("net/ipv4/conf/all/route_localnet", "1"),
];

/// Whether every program that the network needs is installed.
pub fn check_tools() -> Result<(), NetworkError> {
    match find_program("nft") {
        Some(_) => Ok(()),
        None => Err(NetworkError::NotInstalled {
            program: "nft",
            package: "nftables",
        }),
    }
}

pub(super) fn configure_kernel() -> Result<(), NetworkError> {
    SETTINGS
        .iter()
        .try_for_each(|(name, value)| set(name, value))
}

/// Settings of the bridge itself.
pub(super) fn configure_device(device: &str) -> Result<(), NetworkError> {
    set(&format!("net/ipv4/conf/{device}/send_redirects"), "0")
}

fn set(name: &str, value: &str) -> Result<(), NetworkError> {
    let path = PathBuf::from("/proc/sys").join(name);
    let error = |action| {
        let path = path.clone();
        move |source| NetworkError::File {
            action,
            path,
            source,
        }
    };
    let old = std::fs::read_to_string(&path).map_err(error("cannot read"))?;
    if old.trim() == value {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(error("cannot write"))
}

/// The MTU of the device that the default route leaves by, in bytes.
pub(super) fn default_mtu() -> u32 {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mtu = default_device(&routes).and_then(|device| {
        let path = Path::new("/sys/class/net").join(device).join("mtu");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    });
    mtu.unwrap_or(USUAL_MTU)
}

/// The device of the default route in `/proc/net/route`.
fn default_device(routes: &str) -> Option<&str> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let device = fields.next()?;
        let destination = fields.next()?;
        let mask = fields.nth(5)?;
        (destination == "00000000" && mask == "00000000").then_some(device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_route_is_found() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_device(routes), Some("eth0"));
        assert_eq!(default_device("Iface\n"), None);
    }
}
