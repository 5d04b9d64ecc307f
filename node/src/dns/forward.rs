//! Asks the host's resolvers about names outside of the cluster and passes their answers on as they are.
//!
//! It must not know the cluster's own names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::answer::Transport;

/// How long one resolver may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often each resolver is asked.
const ATTEMPTS: usize = 2;
/// The most resolvers that are read from the file.
const MAX_RESOLVERS: usize = 8;
/// Room for one answer, in bytes.
const MAX_MESSAGE_BYTES: usize = 65_535;
/// What systemd-resolved writes for everyone but itself: the real resolvers.
const SYSTEMD_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";
/// systemd-resolved's own listener.
const SYSTEMD_STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

/// The file that names the host's real resolvers.
pub(super) fn host_resolv_conf() -> PathBuf {
    let usual = PathBuf::from("/etc/resolv.conf");
    let text = std::fs::read_to_string(&usual).unwrap_or_default();
    let only_stub = !text.is_empty() && nameservers(&text).all(|address| address == SYSTEMD_STUB);
    let systemd = Path::new(SYSTEMD_RESOLV_CONF);
    if only_stub && systemd.exists() {
        systemd.to_owned()
    } else {
        usual
    }
}

fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver"))
            .then(|| words.next())??
            .parse()
            .ok()
    })
}

/// The host's resolvers, read again when their file changes.
#[derive(Debug)]
pub(super) struct Forwarder {
    resolv_conf: PathBuf,
    /// Our own address: asking it would go on forever.
    own: IpAddr,
    cached: Mutex<(Option<SystemTime>, Vec<SocketAddr>)>,
}

impl Forwarder {
    pub(super) fn new(resolv_conf: PathBuf, own: IpAddr) -> Forwarder {
        Forwarder {
            resolv_conf,
            own,
            cached: Mutex::new((None, Vec::new())),
        }
    }

    /// The resolvers to ask, in order.
    fn resolvers(&self) -> Vec<SocketAddr> {
        let modified = std::fs::metadata(&self.resolv_conf)
            .and_then(|metadata| metadata.modified())
            .ok();
        let mut cached = self.cached.lock();
        if modified.is_none() || cached.0 != modified {
            let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
            let addresses = nameservers(&text)
                .filter(|address| *address != self.own)
                .take(MAX_RESOLVERS);
            *cached = (
                modified,
                addresses
                    .map(|address| SocketAddr::new(address, 53))
                    .collect(),
            );
        }
        cached.1.clone()
    }

    /// Asks one resolver after the other; `None` when none answers. The answer has the question's id.
    pub(super) async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let resolvers = self.resolvers();
        for _ in 0..ATTEMPTS {
            for resolver in &resolvers {
                let answer = async {
                    match transport {
                        Transport::Udp => ask_udp(*resolver, question).await,
                        Transport::Tcp => ask_tcp(*resolver, question).await,
                    }
                };
                match tokio::time::timeout(TIMEOUT, answer).await {
                    Ok(Ok(answer)) => return Some(answer),
                    Ok(Err(error)) => tracing::debug!(%resolver, %error, "resolver did not answer"),
                    Err(_) => tracing::debug!(%resolver, "resolver did not answer in time"),
                }
            }
        }
        None
    }
}

/// Whether an answer belongs to a question: the same id and the mark of an answer.
fn belongs(answer: &[u8], question: &[u8]) -> bool {
    answer.len() >= 12 && answer[..2] == question[..2] && answer[2] & 0x80 != 0
}

async fn ask_udp(resolver: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A new socket for each question has a new random port, which makes forged answers hard.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if belongs(&buffer[..length], question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(resolver: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    write_message(&mut stream, question).await?;
    let answer = read_message(&mut stream).await?;
    if belongs(&answer, question) {
        Ok(answer)
    } else {
        Err(std::io::Error::other("the answer is to another question"))
    }
}

/// Sends a message with its length before it, as TCP needs it.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    stream.write_all(&bytes).await
}

/// Receives a message with its length before it.
pub(super) async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_but_never_ourselves() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("resolv.conf");
        let own = "10.43.0.10".parse().expect("address");
        std::fs::write(
            &file,
            "search a\nnameserver 10.43.0.10\nnameserver 192.0.2.53 \n#nameserver 1.1.1.1\n",
        )
        .expect("write");
        let forwarder = Forwarder::new(file.clone(), own);
        assert_eq!(
            forwarder.resolvers(),
            ["192.0.2.53:53".parse().expect("address")]
        );
        std::fs::remove_file(&file).expect("remove");
        assert!(forwarder.resolvers().is_empty());
    }
}
