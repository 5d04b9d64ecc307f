//! Calls that only the leader can answer: made there, and made again when another leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::peer::{Kind, PeerError, Peers};
use crate::{Error, Leadership};

/// The way to whoever leads.
pub struct ToLeader {
    pub peers: Arc<Peers>,
    pub leadership: watch::Receiver<Leadership>,
    pub timeout: Duration,
    /// A leader that did not answer is asked again after this.
    pub retry: Duration,
}

impl ToLeader {
    /// Runs `here` if this member leads, else makes the call; until one answers or the time is over.
    pub async fn ask<'a, T>(
        &'a self,
        kind: Kind,
        body: Bytes,
        here: impl Fn() -> BoxFuture<'a, Result<T, Error>> + Send + Sync,
        decode: impl Fn(Bytes) -> Option<T> + Send + Sync,
    ) -> Result<T, Error> {
        let mut leadership = self.leadership.clone();
        let deadline = Instant::now() + self.timeout;
        loop {
            let now = *leadership.borrow_and_update();
            let attempt = async {
                match now.leader {
                    Some(leader) if leader == self.peers.me.member => here().await,
                    Some(leader) => {
                        let link = self.peers.link(leader);
                        let answer = link.call(kind, body.clone(), self.timeout).await;
                        match answer {
                            Ok(answer) => decode(answer).ok_or(Error::NoLeader),
                            Err(PeerError::Failed(error)) => Err(error),
                            Err(_) => Err(Error::NoLeader),
                        }
                    }
                    None => Err(Error::NoLeader),
                }
            };
            match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Err(Error::NotLeader { .. } | Error::NoLeader | Error::LeaderChanged)) => {}
                Ok(result) => return result,
                Err(_) => return Err(timeout(now)),
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Err(timeout(now)),
                () = tokio::time::sleep(self.retry) => {}
                changed = leadership.changed() => changed.map_err(|_| Error::Stopped)?,
            }
        }
    }
}

fn timeout(now: Leadership) -> Error {
    match now.leader {
        Some(_) => Error::Timeout,
        None => Error::NoLeader,
    }
}
