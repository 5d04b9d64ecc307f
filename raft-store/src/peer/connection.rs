//! The calling side of one connection: many calls under way at once, told apart by their numbers.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncWrite, AsyncWriteExt, BufReader, ReadHalf};
use tokio::sync::{mpsc, oneshot};

use super::frame::{Frame, Kind};
use super::greeting::{Hello, Refusal};
use super::link::PeerError;
use super::net::PeerStream;
use crate::limits;
use crate::metrics::PeerMetrics;

type Outcome = Result<Bytes, PeerError>;

/// An open connection to a member. It closes when the last handle goes.
pub struct Connection {
    out: mpsc::Sender<Frame>,
    next: AtomicU64,
    calls: Arc<Calls>,
}

#[derive(Default)]
struct Calls {
    /// Gone once the connection has broken.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>,
}

impl Calls {
    fn take(&self, number: u64) -> Option<oneshot::Sender<Outcome>> {
        self.waiting.lock().as_mut()?.remove(&number)
    }

    fn is_idle(&self) -> bool {
        self.waiting.lock().as_ref().is_none_or(HashMap::is_empty)
    }

    fn close(&self) {
        // Whoever waits learns it from its dropped sender.
        *self.waiting.lock() = None;
    }
}

impl Connection {
    /// Greets the member behind `stream`; its tasks run on `runtime`.
    pub async fn open(
        mut stream: Box<dyn PeerStream>,
        hello: &Hello,
        runtime: &tokio::runtime::Handle,
        silence: Duration,
        metrics: PeerMetrics,
    ) -> Result<Self, PeerError> {
        let body = serde_json::to_vec(hello)
            .expect("a greeting is JSON")
            .into();
        let mut bytes = Vec::new();
        let greeting = Frame {
            kind: Kind::Hello,
            number: 0,
            body,
        };
        greeting.write_to(&mut bytes);
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        let answer = Frame::read(&mut stream, limits::PEER_GREETING_BYTES).await?;
        let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let verdict: Result<(), Refusal> = serde_json::from_slice(&answer.body)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        verdict?;
        let (out, frames) = mpsc::channel(limits::PEER_CALLS);
        let calls = Arc::new(Calls {
            waiting: Mutex::new(Some(HashMap::new())),
        });
        let (read, write) = tokio::io::split(stream);
        let (reading, ping) = (calls.clone(), out.downgrade());
        let (sent, received) = (metrics.sent, metrics.received);
        let reader = runtime.spawn(async move {
            if let Err(error) = read_answers(read, &reading, ping, silence, &received).await {
                tracing::debug!(%error, "a connection to a member broke");
            }
            reading.close();
        });
        let writing = calls.clone();
        runtime.spawn(async move {
            if let Err(error) = write_frames(write, frames, &sent).await {
                tracing::debug!(%error, "a connection to a member broke");
            }
            writing.close();
            reader.abort();
        });
        Ok(Self {
            out,
            next: AtomicU64::new(1),
            calls,
        })
    }

    pub fn is_open(&self) -> bool {
        self.calls.waiting.lock().is_some()
    }

    /// Sends a call now; what is returned waits for its answer.
    pub fn start(&self, kind: Kind, body: Bytes) -> Result<Call, PeerError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match self.calls.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(number, sender),
            None => return Err(PeerError::Broken),
        };
        let call = Call {
            number,
            answer,
            calls: self.calls.clone(),
        };
        let frame = Frame { kind, number, body };
        self.out.try_send(frame).map_err(|_| PeerError::Busy)?;
        Ok(call)
    }
}

/// A call that was sent. To drop it is to ignore the answer.
pub struct Call {
    number: u64,
    answer: oneshot::Receiver<Outcome>,
    calls: Arc<Calls>,
}

impl Future for Call {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let answer = Pin::new(&mut self.answer);
        answer
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(PeerError::Broken)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.take(self.number);
    }
}

/// Hands out answers. A member that owes answers and says nothing for long is taken for gone.
async fn read_answers(
    read: ReadHalf<Box<dyn PeerStream>>,
    calls: &Calls,
    out: mpsc::WeakSender<Frame>,
    silence: Duration,
    received: &Counter,
) -> io::Result<()> {
    let mut read = BufReader::with_capacity(limits::PEER_BUFFER_BYTES, read);
    let mut asked = false;
    loop {
        // Only the wait for a first byte may be cut short: a frame is read to its end.
        let readable =
            tokio::time::timeout(silence, tokio::io::AsyncBufReadExt::fill_buf(&mut read));
        match readable.await {
            Ok(buffer) => drop(buffer?.len()),
            Err(_) if calls.is_idle() => {
                asked = false;
                continue;
            }
            Err(_) if asked => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {
                asked = true;
                let ping = Frame {
                    kind: Kind::Ping,
                    number: 0,
                    body: Bytes::new(),
                };
                if let Some(out) = out.upgrade() {
                    let _ = out.try_send(ping);
                }
                continue;
            }
        }
        asked = false;
        let Some(frame) = Frame::read(&mut read, limits::PEER_FRAME_BYTES).await? else {
            return Ok(());
        };
        received.inc_by(frame.wire_bytes());
        let Some(caller) = calls.take(frame.number) else {
            continue;
        };
        let outcome = match frame.kind {
            Kind::Answer => Ok(frame.body),
            _ => Err(serde_json::from_slice(&frame.body)
                .map_or_else(|_| PeerError::Broken, PeerError::Failed)),
        };
        let _ = caller.send(outcome);
    }
}

/// Writes what is queued, as much as there is at once.
pub async fn write_frames(
    mut write: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    sent: &Counter,
) -> io::Result<()> {
    let mut batch = Vec::new();
    let mut bytes = Vec::new();
    while frames
        .recv_many(&mut batch, limits::PEER_FRAMES_PER_WRITE)
        .await
        > 0
    {
        for frame in batch.drain(..) {
            frame.write_to(&mut bytes);
        }
        write.write_all(&bytes).await?;
        write.flush().await?;
        sent.inc_by(bytes.len() as u64);
        bytes.clear();
        bytes.shrink_to(limits::PEER_BUFFER_BYTES);
    }
    write.shutdown().await
}
