//! The two listening sockets. They may be bound before the node has their address.
//!
//! The address comes with the pod network, whose range the control plane assigns after the agent has started. It must
//! not know what is served.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

/// How many TCP connections may wait to be accepted.
const BACKLOG: u32 = 256;

pub(super) fn udp(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(family, SockType::Datagram, flags, None)?;
    socket::setsockopt(&fd, sockopt::IpFreebind, &true)?;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    UdpSocket::from_std(std::net::UdpSocket::from(fd))
}

pub(super) fn tcp(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket::setsockopt(&socket, sockopt::IpFreebind, &true)?;
    // Connections of a former run that still linger must not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
