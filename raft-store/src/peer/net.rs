//! Streams of bytes between members. A simulator plugs in another network here.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream to or from another member.
pub trait PeerStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PeerStream for T {}

/// How members reach each other.
#[async_trait]
pub trait PeerNetwork: Send + Sync {
    /// Connects to a member's peer URL.
    async fn dial(&self, url: &str) -> io::Result<Box<dyn PeerStream>>;

    /// Listens at a URL of `--listen-peer-urls`.
    async fn listen(&self, url: &str) -> io::Result<Box<dyn PeerListener>>;
}

/// Where other members connect.
#[async_trait]
pub trait PeerListener: Send {
    /// The next connection. A failed handshake is not an error of the listener.
    async fn accept(&mut self) -> io::Result<Box<dyn PeerStream>>;
}
