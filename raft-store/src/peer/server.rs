//! The called side: listens, lets in whom the greeting fits, and answers each call when its answer is there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::connection::write_frames;
use super::frame::{Frame, Kind};
use super::greeting::{Hello, check};
use super::link::Peers;
use super::net::{PeerListener, PeerStream};
use crate::metrics::PeerMetrics;
use crate::{Error, limits};

const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

pub type Answer = Result<Bytes, Error>;

/// What the calls do.
#[async_trait]
pub trait Service: Send + Sync {
    /// Answers a call of member `from` (0: someone who is none).
    async fn call(&self, from: u64, kind: Kind, body: Bytes) -> Answer;
}

/// Serves one listener until it fails.
pub async fn serve(
    mut listener: Box<dyn PeerListener>,
    peers: Arc<Peers>,
    service: Arc<dyn Service>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < limits::PEER_CONNECTIONS => match accepted {
                Ok(stream) => {
                    let (peers, service) = (peers.clone(), service.clone());
                    connections.spawn(async move {
                        if let Err(error) = converse(stream, &peers, &*service).await {
                            tracing::debug!(%error, "a member's connection broke");
                        }
                    });
                }
                // Out of file handles, as a rule: wait until a connection ends, or a little.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a member's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn converse(
    mut stream: Box<dyn PeerStream>,
    peers: &Peers,
    service: &dyn Service,
) -> io::Result<()> {
    let greeting = Frame::read(&mut stream, limits::PEER_GREETING_BYTES);
    let greeting = tokio::time::timeout(GREETING_TIMEOUT, greeting).await;
    let Some(greeting) = greeting.map_err(|_| io::ErrorKind::TimedOut)?? else {
        return Ok(());
    };
    let hello: Hello = serde_json::from_slice(&greeting.body)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let verdict = check(peers.me, &peers.roster(), &hello);
    let answer = Frame {
        kind: Kind::Answer,
        number: 0,
        body: serde_json::to_vec(&verdict).expect("it is JSON").into(),
    };
    let mut bytes = Vec::new();
    answer.write_to(&mut bytes);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    if let Err(refusal) = verdict {
        tracing::warn!(from = format_args!("{:x}", hello.from), %refusal, "refused a member's connection");
        return stream.shutdown().await;
    }
    answer_calls(stream, &hello, service, peers.metrics_of(&hello)).await
}

async fn answer_calls(
    stream: Box<dyn PeerStream>,
    hello: &Hello,
    service: &dyn Service,
    metrics: PeerMetrics,
) -> io::Result<()> {
    let (read, write) = tokio::io::split(stream);
    let (out, frames) = mpsc::channel(limits::PEER_CALLS);
    let mut read = BufReader::with_capacity(limits::PEER_BUFFER_BYTES, read);
    let mut writing = std::pin::pin!(write_frames(write, frames, &metrics.sent));
    let mut calls = FuturesUnordered::new();
    let limit = match hello.is_stranger() {
        true => limits::PEER_GREETING_BYTES,
        false => limits::PEER_FRAME_BYTES,
    };
    let mut next = Box::pin(read_one(&mut read, limit));
    loop {
        tokio::select! {
            biased;
            written = &mut writing => return written,
            Some(answer) = calls.next() => {
                // A member that takes in no answers gets no more.
                out.try_send(answer).map_err(|_| io::ErrorKind::TimedOut)?;
            }
            (reader, frame) = &mut next, if calls.len() < limits::PEER_CALLS / 2 => {
                next.set(read_one(reader, limit));
                match frame? {
                    None => return Ok(()),
                    Some(frame) => {
                        metrics.received.inc_by(frame.wire_bytes());
                        calls.push(answer(hello, frame, service));
                    }
                }
            }
        }
    }
}

type Reader = BufReader<tokio::io::ReadHalf<Box<dyn PeerStream>>>;

/// Reads a frame; lent out and given back, so that it is never cut short half way.
async fn read_one(reader: &mut Reader, limit: usize) -> (&mut Reader, io::Result<Option<Frame>>) {
    let frame = Frame::read(reader, limit).await;
    (reader, frame)
}

async fn answer(hello: &Hello, frame: Frame, service: &dyn Service) -> Frame {
    let answer = match frame.kind {
        Kind::Ping => Ok(Bytes::new()),
        kind if hello.is_stranger() && kind != Kind::Members => Err(Error::ClusterIdMismatch),
        kind => service.call(hello.from, kind, frame.body).await,
    };
    let (kind, body) = match answer {
        Ok(body) => (Kind::Answer, body),
        Err(error) => (
            Kind::Failure,
            serde_json::to_vec(&error).expect("an error is JSON").into(),
        ),
    };
    Frame {
        kind,
        number: frame.number,
        body,
    }
}
