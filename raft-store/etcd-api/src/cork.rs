//! A connection's writes, held back until its owner says so: many small answers then cost one system call.
//!
//! HTTP/2 flushes whenever it has nothing more to say; only the connection's loop knows that more is to come at once.
//! Must not know HTTP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes held back at most; beyond it writing waits for the peer.
const HELD_BYTES: usize = 256 * 1024;
/// What comes in one piece of this size is not copied if nothing is held before it.
const DIRECT_BYTES: usize = 16 * 1024;
/// Room kept for the next round, bytes.
const KEPT_BYTES: usize = 16 * 1024;

struct Held<IO> {
    io: IO,
    out: Vec<u8>,
    /// Bytes of `out` that were written.
    written: usize,
}

/// The connection as HTTP/2 sees it: its flushes do nothing.
pub(crate) struct Corked<IO>(Arc<Mutex<Held<IO>>>);

/// The owner's end: flushes.
pub(crate) struct Cork<IO>(Arc<Mutex<Held<IO>>>);

pub(crate) fn cork<IO>(io: IO) -> (Corked<IO>, Cork<IO>) {
    let held = Arc::new(Mutex::new(Held {
        io,
        out: Vec::new(),
        written: 0,
    }));
    (Corked(held.clone()), Cork(held))
}

impl<IO: AsyncWrite + Unpin> Held<IO> {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let rest = &self.out[self.written..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES);
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> Cork<IO> {
    /// Sends what was held back.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        ready!(held.poll_write_out(cx))?;
        Pin::new(&mut held.io).poll_flush(cx)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Corked<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Corked<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.lock();
        let len = pieces.iter().map(|piece| piece.len()).sum();
        if held.out.is_empty() && len >= DIRECT_BYTES {
            return Pin::new(&mut held.io).poll_write_vectored(cx, pieces);
        }
        if held.out.len() >= HELD_BYTES {
            ready!(held.poll_write_out(cx))?;
        }
        for piece in pieces {
            held.out.extend_from_slice(piece);
        }
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock();
        ready!(held.poll_write_out(cx))?;
        Pin::new(&mut held.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nothing_leaves_before_the_owner_flushes() {
        let (io, mut peer) = tokio::io::duplex(1 << 20);
        let (mut corked, cork) = cork(io);
        for word in ["one ", "two ", "three"] {
            corked.write_all(word.as_bytes()).await.unwrap();
            corked.flush().await.unwrap();
        }
        let mut found = vec![0; 13];
        let early = futures::poll!(Box::pin(peer.read_exact(&mut found)));
        assert!(early.is_pending());
        poll_fn(|cx| cork.poll_flush(cx)).await.unwrap();
        peer.read_exact(&mut found).await.unwrap();
        assert_eq!(found, b"one two three");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_holds_up_the_writer() {
        let (io, mut peer) = tokio::io::duplex(16);
        let (mut corked, _cork) = cork(io);
        let sent: Vec<u8> = (0..3 * HELD_BYTES).map(|n| n as u8).collect();
        let all = sent.clone();
        let writer = tokio::spawn(async move {
            // In pieces too small to be sent past the buffer.
            for piece in all.chunks(1000) {
                corked.write_all(piece).await.unwrap();
            }
            corked.shutdown().await.unwrap();
        });
        let mut found = Vec::new();
        peer.read_to_end(&mut found).await.unwrap();
        writer.await.unwrap();
        assert!(found == sent);
    }
}
