//! What the machine says about itself: its name and the address that others reach it at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

/// The host's name in the form that node names have.
pub fn node_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read the host's name")?;
    Ok(name.trim().to_lowercase())
}

/// The address of the interface that the default route leads through. Nothing is sent.
pub fn default_address() -> Result<IpAddr> {
    let anywhere = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 9));
    let address = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(anywhere)?;
        socket.local_addr()
    });
    let address = address.context(
        "this machine has no default route, so its address is not known: name it with --advertise-address",
    )?;
    Ok(address.ip())
}

/// Whether this process may do what running containers needs.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
