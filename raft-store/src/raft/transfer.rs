//! Carrying a whole state to a member that lags too far behind: in chunks, over a connection of its own, going on
//! where it broke off.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::snapshot::StateSnapshot;
use super::state_machine::StateMachine;
use super::types::{TypeConfig, Vote};
use crate::peer::{Answer, Kind, Link, PeerError};
use crate::snapshot::{Receiver, SnapshotError, Source};
use crate::{Error, limits};

type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// How long a member may take over one chunk, and over the installation of the whole.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(1800);

/// Ends a transfer.
#[derive(Serialize, Deserialize)]
pub struct End {
    pub id: u64,
    pub vote: Vote,
}

/// Sends a state and waits until the member has taken it over.
pub async fn send(
    link: &Arc<Link>,
    vote: Vote,
    source: &Arc<Source>,
) -> Result<SnapshotResponse<TypeConfig>, PeerError> {
    let connection = link.separate_connection().await?;
    let id = Bytes::copy_from_slice(&source.id.to_le_bytes());
    let begun = timed(CHUNK_TIMEOUT, connection.start(Kind::SnapshotBegin, id)?).await?;
    let mut offset: u64 = serde_json::from_slice(&begun).map_err(|_| PeerError::Broken)?;
    tracing::info!(
        member = format_args!("{:x}", link.id),
        index = source.header.index,
        offset,
        "sending the whole state"
    );
    let mut blocks = source.stream(offset);
    let mut under_way = FuturesOrdered::new();
    while let Some(block) = blocks.recv().await {
        let block = block.map_err(|error| PeerError::Failed(Error::Storage(error.to_string())))?;
        let mut chunk = BytesMut::with_capacity(16 + block.len());
        chunk.put_u64_le(source.id);
        chunk.put_u64_le(offset);
        chunk.extend_from_slice(&block);
        offset += block.len() as u64;
        under_way.push_back(connection.start(Kind::SnapshotChunk, chunk.freeze())?);
        if under_way.len() >= limits::SNAPSHOT_BLOCKS_AHEAD
            && let Some(answer) = timed(CHUNK_TIMEOUT, async { Ok(under_way.next().await) }).await?
        {
            answer?;
        }
    }
    while let Some(answer) = under_way.next().await {
        answer?;
    }
    let end = End {
        id: source.id,
        vote,
    };
    let end = serde_json::to_vec(&end).expect("it is JSON").into();
    let answer = timed(INSTALL_TIMEOUT, connection.start(Kind::SnapshotEnd, end)?).await?;
    serde_json::from_slice(&answer).map_err(|_| PeerError::Broken)
}

async fn timed<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, PeerError>>,
) -> Result<T, PeerError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(PeerError::Timeout),
    }
}

/// The state that this member takes in, if any.
pub struct Incoming {
    folder: PathBuf,
    cluster: u64,
    transfer: Mutex<Option<(u64, Receiver)>>,
}

impl Incoming {
    pub fn new(folder: PathBuf, cluster: u64) -> Self {
        Self {
            folder,
            cluster,
            transfer: Mutex::default(),
        }
    }

    /// Begins or resumes; answers at which offset.
    pub async fn begin(&self, body: Bytes) -> Answer {
        let mut transfer = self.transfer.lock().await;
        let id = take_u64(&body, 0)?;
        if transfer.as_ref().is_none_or(|(current, _)| *current != id) {
            *transfer = None;
            let folder = self.folder.clone();
            let receiver = blocking(move || Receiver::begin(&folder, id)).await?;
            *transfer = Some((id, receiver));
        }
        let offset = transfer
            .as_ref()
            .map_or(0, |(_, receiver)| receiver.offset());
        Ok(serde_json::to_vec(&offset).expect("it is JSON").into())
    }

    /// Takes in a chunk.
    pub async fn chunk(&self, body: Bytes) -> Answer {
        let mut transfer = self.transfer.lock().await;
        let (id, offset) = (take_u64(&body, 0)?, take_u64(&body, 8)?);
        let Some((current, mut receiver)) = transfer.take_if(|(current, _)| *current == id) else {
            return Err(Error::Storage("no such snapshot is taken in".to_owned()));
        };
        let chunk = body.slice(16..);
        let (receiver, written) = blocking(move || {
            let written = receiver.write(offset, &chunk);
            Ok((receiver, written))
        })
        .await?;
        *transfer = Some((current, receiver));
        written.map_err(storage)?;
        Ok(Bytes::new())
    }

    /// Checks what was taken in and makes it this member's state.
    pub async fn end(&self, raft: &Raft, body: Bytes) -> Answer {
        let end: End = serde_json::from_slice(&body)
            .map_err(|error| Error::Storage(format!("malformed call: {error}")))?;
        let mut transfer = self.transfer.lock().await;
        let Some((_, receiver)) = transfer.take_if(|(current, _)| *current == end.id) else {
            return Err(Error::Storage("no such snapshot is taken in".to_owned()));
        };
        let cluster = self.cluster;
        let received = blocking(move || receiver.finish(cluster)).await?;
        let snapshot = StateSnapshot::received(received);
        let answer = raft.install_full_snapshot(end.vote, snapshot).await;
        let answer = answer.map_err(|_| Error::Stopped)?;
        Ok(serde_json::to_vec(&answer).expect("it is JSON").into())
    }
}

fn take_u64(body: &[u8], at: usize) -> Result<u64, Error> {
    let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| Error::Storage("malformed call".to_owned()))?;
    Ok(u64::from_le_bytes(bytes))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, Error> {
    let done = crate::threads::spawn_blocking(work).await;
    done.map_err(|_| Error::Stopped)?.map_err(storage)
}

fn storage(error: SnapshotError) -> Error {
    Error::Storage(error.to_string())
}
