//! Signs of life: a client that stopped answering without saying so is found out, and its connection closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Connections are asked for a sign of life this often, as in etcd.
const INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
/// What does not answer within this time is gone.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The pings of one connection.
pub(crate) struct Keepalive {
    pings: PingPong,
    /// When the next one is due, or, if one is under way, when its answer is overdue.
    due: Pin<Box<Sleep>>,
    asked: bool,
}

impl Keepalive {
    pub fn new(pings: PingPong) -> Self {
        Self {
            pings,
            due: Box::pin(sleep(INTERVAL)),
            asked: false,
        }
    }

    /// Sends what is due.
    ///
    /// # Errors
    /// The client is gone.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.asked
            && let Poll::Ready(pong) = self.pings.poll_pong(cx)
        {
            pong.map_err(io::Error::other)?;
            self.asked = false;
            self.due.as_mut().reset(Instant::now() + INTERVAL);
        }
        while self.due.as_mut().poll(cx).is_ready() {
            if self.asked {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let sent = self.pings.send_ping(Ping::opaque());
            sent.map_err(io::Error::other)?;
            self.asked = true;
            self.due.as_mut().reset(Instant::now() + TIMEOUT);
            // Its waker is needed for the answer.
            if let Poll::Ready(Err(error)) = self.pings.poll_pong(cx) {
                return Err(io::Error::other(error));
            }
        }
        Ok(())
    }
}
